"""The decision: what to ship, never a tie called a win, never a limit passed over."""

import pytest
import results_examples as examples
from hostile_sweeps import only_failures, open_store, two_variants

from harness.analysis.decision import decide
from harness.analysis.shipping.choice import ShipLimits
from harness.analysis.sweep_data import read_sweep_data
from harness.report.html.history_figure import ChangePoint, history_figure


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path) as opened:
        yield opened


def decided(store, limits=None):
    """Return the decisions of the last sweep."""
    return decide(read_sweep_data(store, store.find_sweep("latest")), limits or ShipLimits())


def test_the_faster_variant_within_the_limits_is_shipped(store):
    (decision,) = decided(two_variants(store))
    assert decision.headline == (
        "On Google Pixel 8, ship int8 on cpu: 2.0\u00d7 faster than fp32 on cpu, \u22120.3 points, 3.9\u00d7 smaller."
    )


def test_what_loses_too_much_accuracy_is_not_shipped(store):
    (decision,) = decided(two_variants(store), ShipLimits(max_drop_points=0.1))
    assert decision.ship == "fp32 on cpu"
    assert "the model as it is" in decision.headline


@pytest.mark.parametrize(
    "limits, words",
    [
        (ShipLimits(max_latency_ms=0.1), "latency of at most 0.1 ms"),
        (ShipLimits(max_size_kb=10), "file of at most 10 kB"),
        (ShipLimits(max_memory_mb=1), "at most 1 MB of memory"),
    ],
)
def test_limits_that_nothing_meets(store, limits, words):
    (decision,) = decided(two_variants(store), limits)
    assert not decision.ship
    assert decision.headline.startswith("On Google Pixel 8, no variant meets your limits: ")
    assert words in decision.headline
    assert any("2 of 2 ranked rows over the limit" in note for note in decision.notes)


def test_a_tie_is_never_called_a_win(store):
    (decision,) = decided(two_variants(store, fast=999.0, count=6))
    assert decision.ship == "int8 on cpu"
    assert "faster than" not in decision.headline
    assert "cannot tell it from fp32 on cpu" in " ".join(decision.notes)


def test_a_tie_is_never_called_a_win_by_few_wild_invocations(store):
    examples.begin(store, variants=("fp32", "int8"))
    for variant, latencies in (("fp32", [900, 1500, 1000, 2000, 1100]), ("int8", [700, 1400, 600, 1900, 800])):
        examples.measure(store, examples.cell(variant), latencies, outcome=examples.accuracy_outcome())
    (decision,) = decided(store)
    assert "faster" not in decision.headline.replace("not shown to be faster or slower", "")


def test_nothing_ranked(store):
    (decision,) = decided(only_failures(store))
    assert decision.headline == "On Google Pixel 8, nothing can be shipped: no row could be ranked (timeout, crashed)."


def test_unknown_accuracy_is_said_instead_of_judged(store):
    examples.begin(store, variants=("fp32",))
    outcome = examples.accuracy_outcome()
    without = type(outcome)(outcome.check, None, None, 500, "", "log", 1.0)
    examples.measure(store, examples.cell("fp32"), [1000, 1001, 1002, 1003, 1004], outcome=without)
    (decision,) = decided(store)
    assert decision.ship == "fp32 on cpu"
    assert "Accuracy was not measured, so no limit on it could be kept." in decision.notes


def test_a_noise_sweep_decides_nothing(store):
    store.start_sweep(examples.sweep_record(spec={"model": "fashion-dscnn", "purpose": "noise"}))
    data = read_sweep_data(store, store.find_sweep(examples.SWEEP))
    assert decide(data, ShipLimits()) == []


def test_history_marks_change_points_in_the_order_of_time(store):
    second = "20261125-083000-cd34"
    two_variants(store)
    two_variants(store, sweep_id=second, fast=600.0)
    sweeps = [read_sweep_data(store, record) for record in store.sweeps()]
    change = ChangePoint("R58M", "int8", "cpu", 1, second, 1.2, "os")
    figure = history_figure(sweeps, [change], "history")
    nights = figure.data["Google Pixel 8 (R58M), int8"]
    assert [(night["sweep"], night["mark"]) for night in nights] == [(examples.SWEEP, ""), (second, "+20.0 %")]
    assert nights[1]["change"] == "+20.0 % with another os"
    assert len({night["key"] for night in nights}) == 1
