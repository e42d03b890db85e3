"""What a sweep says: medians with intervals, verdicts, ranks."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_examples import SWEEP, accuracy_outcome, begin, card, cell, facts, failed, measure

from harness.analysis.evidence import RowName, read_evidence
from harness.analysis.history.nights import read_nights
from harness.analysis.promises import judge_promises
from harness.analysis.result_row import COLUMNS
from harness.analysis.statistics import Estimate, median_with_interval
from harness.analysis.summary import summarize
from harness.analysis.verdict import Facts, Verdict, judge_cell, rank
from harness.errors import Failure, FailureClass
from harness.export.tables import summary_frame
from harness.store.store import Store
from harness.tflite.variant import FidelityOutcome, OutputFidelity, VariantFidelity

FAST, SLOW = [100.0, 101.0, 102.0, 101.5, 100.5], [200.0, 201.0, 202.0, 201.5, 200.5]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        yield opened


def rows_by_variant(store):
    return {row["variant"]: row for row in [row.as_json() for row in summarize(store, SWEEP)]}


def test_one_row_a_cell_with_every_documented_column(store):
    begin(store, variants=("fp32", "int8"))
    measure(store, cell("fp32"), SLOW, outcome=accuracy_outcome(0.915))
    measure(store, cell("int8"), FAST, outcome=accuracy_outcome(0.905))
    summary = summary_frame(summarize(store, SWEEP))
    assert list(summary.columns) == list(COLUMNS)
    rows = rows_by_variant(store)
    assert rows["int8"]["latency_median_us"] == 101.0
    assert rows["int8"]["latency_low_us"] <= 101.0 <= rows["int8"]["latency_high_us"]
    assert rows["int8"]["memory_overall_mb"] == 4.5
    assert rows["int8"]["accuracy_drop_points"] == pytest.approx(1.0)
    assert (rows["int8"]["rank"], rows["int8"]["fastest"]) == (1, True)
    assert (rows["fp32"]["rank"], rows["fp32"]["tied"]) == (2, False)


def test_promise_h10_the_memory_passes_latency_is_never_used(store):
    begin(store)
    measure(store, cell(), FAST, outcome=accuracy_outcome())  # its memory pass says 9999 us
    assert rows_by_variant(store)["int8"]["latency_median_us"] == 101.0


def test_promise_h8_fewer_than_five_invocations_have_no_rank(store):
    begin(store, variants=("fp32", "int8"))
    measure(store, cell("fp32"), FAST, outcome=accuracy_outcome())
    measure(store, cell("int8"), FAST[:4], outcome=accuracy_outcome())
    verdicts = {name: (row["verdict"], row["rank"]) for name, row in rows_by_variant(store).items()}
    assert verdicts == {"fp32": ("ranked", 1), "int8": ("incomplete", None)}


def test_spreads_outliers_and_drift_are_told_apart(store):
    begin(store, variants=("fp32", "int8"))
    measure(store, cell("fp32"), [100.0, 101.0, 99.0, 100.5, 700.0, 99.5, 100.2])
    measure(store, cell("int8"), [100.0 + index for index in range(10)], latency_std_us=2.0)
    rows = rows_by_variant(store)
    assert (rows["fp32"]["latency_outliers"], rows["fp32"]["latency_drift"]) == (1, None)
    assert rows["fp32"]["invocations_ok"] == 7
    assert (rows["int8"]["latency_outliers"], rows["int8"]["latency_drift"]) == (0, pytest.approx(0.09, abs=0.005))
    assert rows["int8"]["latency_within_spread"] == pytest.approx(2 / 104.5, rel=0.01)


def test_promise_h13_what_fell_back_is_not_ranked(store):
    begin(store)
    measure(store, cell(delegate="nnapi"), FAST, outcome=accuracy_outcome(), achieved="cpu", fell_back=True)
    row = rows_by_variant(store)["int8"]
    assert (row["rank"], row["verdict"], row["failure_class"]) == (None, "fell_back", "fell_back")


def test_promise_h13_what_the_log_does_not_prove_is_not_ranked(store):
    begin(store)
    measure(store, cell(delegate="gpu"), FAST, outcome=accuracy_outcome(), fell_back=None)
    row = rows_by_variant(store)["int8"]
    assert (row["rank"], row["verdict"]) == (None, "unproven")


def test_promise_h14_wrong_outputs_are_not_ranked(store):
    begin(store)
    wrong = Failure(FailureClass.WRONG_OUTPUT, "The outputs differ.")
    measure(store, cell(delegate="gpu"), FAST, outcome=accuracy_outcome(passed=False, failure=wrong))
    row = rows_by_variant(store)["int8"]
    assert (row["rank"], row["failure_class"]) == (None, "wrong_output")


def test_promise_h14_unchecked_outputs_are_not_ranked(store):
    begin(store)
    measure(store, cell(), FAST)
    assert rows_by_variant(store)["int8"]["verdict"] == "unchecked"


def test_variants_and_devices_that_failed_do_not_vanish(store):
    begin(store, devices=[facts(), facts("DEAD", "Nexus", "LG")])
    measure(store, cell(), FAST, outcome=accuracy_outcome())
    store.add_variant_failure(SWEEP, "prune50", Failure(FailureClass.CONVERSION_FAILED, "No."))
    store.add_device_failure(SWEEP, "DEAD", Failure(FailureClass.DEVICE_UNAUTHORIZED, "Not trusted."))
    classes = {row["failure_class"] for row in [row.as_json() for row in summarize(store, SWEEP)]}
    assert classes == {None, "conversion_failed", "device_unauthorized"}


def test_a_cell_that_failed_says_why(store):
    begin(store)
    store.add_cell(SWEEP, cell())
    from results_examples import add

    add(store, cell(), 0, failed(Failure(FailureClass.OUT_OF_MEMORY, "Too little memory.", "std::bad_alloc")))
    row = rows_by_variant(store)["int8"]
    assert (row["failure_class"], row["failure_evidence"]) == ("out_of_memory", "std::bad_alloc")
    assert row["failure_advice"]


GOOD = {
    "is_cpu": False,
    "fell_back": False,
    "check_passed": True,
    "invocations_ok": 5,
    "invocations_failed": 0,
    "has_failure": False,
}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.RANKED),
        ({"fell_back": True}, Verdict.FELL_BACK),
        ({"fell_back": True, "is_cpu": True}, Verdict.RANKED),
        ({"fell_back": None}, Verdict.UNPROVEN),
        ({"check_passed": False}, Verdict.WRONG_OUTPUT),
        ({"check_passed": None}, Verdict.UNCHECKED),
        ({"invocations_ok": 4}, Verdict.INCOMPLETE),
        ({"invocations_ok": 0}, Verdict.NOT_MEASURED),
        ({"invocations_ok": 0, "has_failure": True}, Verdict.FAILED),
        ({"invocations_failed": 1}, Verdict.UNRELIABLE),
    ],
)
def test_verdicts(changes, verdict):
    assert judge_cell(Facts(**(GOOD | changes))) is verdict


def test_ties_are_shown_as_ties():
    places = rank({"a": Estimate(10, 9, 12, 5), "b": Estimate(11, 10, 13, 5), "c": Estimate(20, 19, 21, 5)})
    assert {key: (place.place, place.tied) for key, place in places.items()} == {
        "a": (1, True),
        "b": (1, True),
        "c": (3, False),
    }


LATENCIES = st.lists(st.floats(0.001, 1e9), min_size=2, max_size=20)


@given(LATENCIES)
def test_the_interval_holds_the_median_and_lies_within_the_data(values):
    estimate = median_with_interval(values)
    inside = [min(values), estimate.low, estimate.value, estimate.high, max(values)]
    for left, right in itertools.pairwise(inside):
        assert left <= right or math.isclose(left, right)
    assert estimate == median_with_interval(values)


def test_too_few_values_have_no_interval():
    assert median_with_interval([]) is None
    assert median_with_interval([5.0]) == Estimate(5.0, None, None, 1)


# -- what the comparison with the float model decides (H23) --


def with_fidelity(name, outcome, **figures):
    outputs = (OutputFidelity(name="out", **figures),) if figures else ()
    fidelity = VariantFidelity(outcome=outcome, reason="why", inputs="real", samples=50, kind="int8", outputs=outputs)
    return card(name).model_copy(update={"fidelity": fidelity})


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (FidelityOutcome.LOST, "accuracy_lost"),
        (FidelityOutcome.KEPT, "ranked"),
        (FidelityOutcome.NO_FLOAT_MODEL, "ranked"),
        (FidelityOutcome.FAILED, "unchecked"),
    ],
)
def test_promise_h23_only_compared_variants_are_ranked(store, outcome, verdict):
    begin(store, variants=("fp32",))
    store.add_variant(SWEEP, with_fidelity("int8", outcome, snr_db=3.5, agreement=0.5))
    measure(store, cell("fp32"), SLOW, outcome=accuracy_outcome())
    measure(store, cell("int8"), FAST, outcome=accuracy_outcome())
    rows = rows_by_variant(store)
    assert (rows["int8"]["verdict"], rows["int8"]["rank"]) == (verdict, 1 if verdict == "ranked" else None)
    assert (rows["int8"]["fidelity_snr_db"], rows["int8"]["fidelity_agreement"]) == (3.5, 0.5)
    assert rows["int8"]["failure_class"] == ("accuracy_lost" if verdict == "accuracy_lost" else None)
    assert rows["fp32"]["rank"] == (2 if verdict == "ranked" else 1)


def test_promise_h23_old_sweeps_keep_their_ranks(store):
    begin(store)  # a card from before variants were compared
    measure(store, cell(), FAST, outcome=accuracy_outcome())
    row = rows_by_variant(store)["int8"]
    assert (row["verdict"], row["rank"], row["fidelity_inputs"]) == ("ranked", 1, None)
    (promise,) = (
        one for one in judge_promises(read_evidence(store, SWEEP, RowName("int8", "cpu"))) if one.number == 23
    )
    assert promise.kept is None


def test_promise_h23_what_lost_accuracy_says_so_in_its_promise(store):
    begin(store, variants=())
    store.add_variant(SWEEP, with_fidelity("int8", FidelityOutcome.LOST, snr_db=3.5, lost="3.5 dB"))
    measure(store, cell(), FAST, outcome=accuracy_outcome())
    (promise,) = (
        one for one in judge_promises(read_evidence(store, SWEEP, RowName("int8", "cpu"))) if one.number == 23
    )
    assert (promise.kept, promise.sentence) == (True, "Not ranked: why.")
    assert read_nights(store)[0].nights[0].verdict is Verdict.ACCURACY_LOST
