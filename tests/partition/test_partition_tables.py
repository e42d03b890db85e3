"""What the tables and sentences say of outcomes: one figure a place, and plainly who wins."""

import io

import pytest
from rich.console import Console

from harness.errors import Failure, FailureClass
from harness.partition.costs import MeasuredPieces
from harness.partition.trial import Outcome
from harness.report.terminal.partition import disturbances, outcome_table, remarks, verdict


def outcome(way, units, per_s, latency_us, *, predicted_per_s=None, failure=None, limit=None):
    return Outcome(way, tuple(units), latency_us, latency_us, predicted_per_s, per_s, limit=limit, failure=failure)


WHOLE = outcome("whole", ["cpu@0"], 50.0, 20_000.0)
COPIES = outcome("copies", ["cpu@0", "cpu@1"], 95.0, 21_000.0)
PARTIAL = outcome("partial", ["gpu with 40 of 66 nodes"], 30.0, 33_000.0)
PIPELINE = outcome("pipeline", ["cpu@0", "cpu@1"], 90.0, 21_000.0, predicted_per_s=100.0)


def drawn(table, width=120):
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False).print(table)
    return screen.getvalue()


def test_cutting_that_loses_is_said_to_lose():
    said = verdict([WHOLE, COPIES, PIPELINE])
    assert said == (
        "Cutting does not pay here: 0.95 times the results a second of 2 copies on cpu@0, cpu@1, "
        "and 1.05 times the latency of the whole on cpu@0."
    )


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        (outcome("pipeline", ["gpu", "cpu@1"], 120.0, 21_000.0), "pays here for results a second:"),
        (outcome("chain", ["gpu", "cpu@0"], 60.0, 15_000.0), "pays here for latency:"),
        (outcome("chain", ["gpu", "cpu@0"], 120.0, 15_000.0), "pays here for results a second and for latency:"),
        (outcome("pipeline", ["gpu", "cpu@1"], 97.0, 19_500.0), "does not pay here:"),
    ],
)
def test_what_cutting_pays_for_is_said(pipeline, words):
    assert f"Cutting {words}" in verdict([WHOLE, COPIES, pipeline])


@pytest.mark.parametrize(
    ("per_s", "latency_us", "words"),
    [(90.0, 21_000.0, "wins"), (20.0, 60_000.0, "loses"), (30.0, 33_000.0, "ties")],
)
def test_the_tools_own_partial_delegation_is_compared_with(per_s, latency_us, words):
    said = verdict([WHOLE, PARTIAL, outcome("pipeline", ["gpu", "cpu@1"], per_s, latency_us)])
    assert f"Cutting {words} against the tool's own partial delegation: on gpu with 40 of 66 nodes:" in said


def test_where_there_is_nothing_to_place_on_that_is_said():
    assert "a pipeline needs two units" in verdict([WHOLE])


def test_what_failed_wins_nothing():
    broken = outcome("whole", ["gpu"], 900.0, 1.0, failure=Failure(FailureClass.WRONG_OUTPUT, "All zeros."))
    assert "2 copies on cpu@0, cpu@1" in verdict([WHOLE, COPIES, broken, PIPELINE])
    assert "Nothing can be said" in verdict([broken, PIPELINE])
    assert list(remarks([broken])) == ["whole on gpu: All zeros."]


def test_shared_units_and_limits_are_told():
    shared = outcome("pipeline", ["cpu@0", "cpu@1", "cpu@0"], 90.0, 21_000.0, limit="cpu@0")
    assert list(remarks([shared])) == [
        "pipeline on cpu@0, cpu@1, cpu@0: stages 1 and 3 share cpu@0, whose time is divided between them.",
        "pipeline on cpu@0, cpu@1, cpu@0: by the prediction cpu@0 is what limits it.",
    ]


def test_a_busy_device_is_told():
    def measured(processor_us):
        times = {"cpu": 10_000.0, "gpu": 10_000.0}
        used = {"cpu": processor_us, "gpu": 100.0}  # an accelerator leaves the cores alone
        return MeasuredPieces("s", times, {}, used, {}, {}, (), {})

    assert list(disturbances(measured(9_900.0))) == []
    (told,) = disturbances(measured(2_900.0))
    assert told.startswith("The whole on cpu was on a core for 29 % of its time only:")


def test_errors_stand_beside_what_was_predicted():
    wide = drawn(outcome_table([WHOLE, PIPELINE]))
    assert "-10.0" in wide
    assert wide.index("pipeline") < wide.index("whole")  # the most results first


@pytest.mark.parametrize("width", [100, 60, 30])
def test_tables_fit_the_terminal(width):
    narrow = drawn(outcome_table([WHOLE, COPIES, PIPELINE]), width)
    assert all(len(line.rstrip()) <= width for line in narrow.splitlines())
    assert "pipeline" in narrow
