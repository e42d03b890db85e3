"""The row to ship: never one that the pairwise test of `harness compare` shows to be slower, and none out of noise."""

import math
from random import Random

import pytest
import results_examples as examples

from harness.analysis.cell_comparison import CellPair, compare_cells
from harness.analysis.comparison import FindingVerdict
from harness.analysis.decision import DecisionOutcome, decide
from harness.analysis.result_row import ResultRow
from harness.analysis.shipping.choice import ShipLimits, choose
from harness.analysis.sweep_data import read_sweep_data
from harness.store.store import Store

HEATING = [1 + 0.1 * block for block in range(12)]
"""What every cell of a block shares: it makes intervals wide and overlapping, and cancels in pairs."""


def swept(folder, latencies, sizes=None, *, preset="quick", top1=None):
    """Return a sweep of one phone; `latencies` by variant, of which fp32 is the untouched model."""
    with Store.open(folder) as store:
        store.start_sweep(examples.sweep_record(preset=preset))
        store.add_device(examples.SWEEP, examples.facts(), "generic", ())
        store.add_tool(examples.SWEEP, examples.tool())
        for variant, values in latencies.items():
            steps = () if variant == "fp32" else ({"technique": "quantization"},)
            size = (sizes or {}).get(variant, 100_000)
            store.add_variant(examples.SWEEP, examples.card(variant, size).model_copy(update={"steps": steps}))
            outcome = examples.accuracy_outcome(top1=(top1 or {}).get(variant, 0.915))
            examples.measure(store, examples.cell(variant), values, outcome=outcome)
        return read_sweep_data(store, store.find_sweep("latest"))


def jittered(factor, blocks=HEATING, spread=0.004):
    return [100 * factor * block * (1 + spread * ((index * 7) % 5 - 2)) for index, block in enumerate(blocks)]


def verdict(data, a, b):
    sides = {side.cell.variant: side for side in data.sides}
    (compared,) = compare_cells([CellPair(sides[a], sides[b])], data.noise)
    return compared.finding.verdict


SIZES = {"fp32": 80_000, "fp16": 44_000, "dynamic-int8": 30_000, "int8": 24_000}


def test_what_pairs_show_to_be_slower_is_never_shipped(tmp_path):
    data = swept(tmp_path, {"fp32": jittered(1.0), "fp16": jittered(0.99), "int8": jittered(1.44)}, SIZES)
    rows = {row.variant: row for row in data.rows}
    assert rows["int8"].latency_low_us < rows["fp16"].latency_high_us  # intervals of the medians overlap
    assert verdict(data, "fp32", "int8") is FindingVerdict.SLOWER
    (decision,) = decide(data, ShipLimits())
    assert decision.ship == "fp16 on cpu"
    assert decision.headline.startswith("On Google Pixel 8, ship fp16 on cpu: as fast as fp32 on cpu, no loss, 1.8")
    assert "int8" not in " ".join(decision.notes)


def test_what_is_slower_may_be_shipped_if_only_it_meets_a_limit(tmp_path):
    data = swept(tmp_path, {"fp32": jittered(1.0), "int8": jittered(1.44)}, SIZES)
    (decision,) = decide(data, ShipLimits(max_size_kb=50))
    assert decision.headline.startswith("On Google Pixel 8, ship int8 on cpu: 1.4\u00d7 slower than fp32 on cpu")
    assert "fp32 on cpu does not meet your limits." in decision.notes


@pytest.mark.parametrize("seed", range(25))
def test_the_choice_agrees_with_every_pairwise_test(tmp_path, seed):
    random = Random(seed)
    noise, drift = random.choice([0.005, 0.03, 0.1, 0.3]), random.choice([0.0, 0.5])
    count = random.choice([5, 6, 10, 18])
    latencies = {}
    for variant in SIZES:
        factor = math.exp(random.gauss(0, 0.15))
        latencies[variant] = [100 * factor * math.exp(drift * i / count + random.gauss(0, noise)) for i in range(count)]
    data = swept(tmp_path, latencies, SIZES)
    choice = choose(data, data.rows, ShipLimits())
    shipped = choice.chosen.variant
    worse = [other for other in SIZES if other != shipped and verdict(data, other, shipped) is FindingVerdict.SLOWER]
    assert worse == []
    for row in choice.tied:
        assert verdict(data, row.variant, shipped) in (FindingVerdict.SAME, FindingVerdict.INCONCLUSIVE)
    for row in choice.fit:
        if row.variant != shipped and choice.hidden is None:
            assert choice.chosen.latency_median_us < 1.5 * row.latency_median_us


WILD = [0.4, 1.9, 0.7, 2.6, 1.0, 0.5]


def test_noise_that_hides_a_factor_decides_nothing(tmp_path):
    wild = {"fp32": [100 * value for value in WILD], "int8": [220 * value for value in reversed(WILD)]}
    (decision,) = decide(swept(tmp_path, wild, SIZES), ShipLimits())
    assert decision.outcome is DecisionOutcome.TOO_NOISY
    assert not decision.ship
    assert "ship" not in decision.headline
    assert decision.headline.startswith("On Google Pixel 8, too noisy to decide: the noise hides a factor of ")
    assert decision.headline.endswith("between fp32 on cpu and int8 on cpu. Repeat with --preset standard.")


def test_the_advice_names_the_next_preset(tmp_path):
    wild = {"fp32": [100 * value for value in WILD], "int8": [220 * value for value in reversed(WILD)]}
    (decision,) = decide(swept(tmp_path, wild, preset="standard"), ShipLimits())
    assert decision.headline.endswith("Repeat with --preset strict.")


def test_a_noisy_row_that_is_clearly_slower_hides_nothing(tmp_path):
    noisy = {"fp32": jittered(1.0), "int8": [900 * value for value in WILD + WILD]}
    (decision,) = decide(swept(tmp_path, noisy), ShipLimits())
    assert decision.ship == "fp32 on cpu"


def test_cells_of_other_sessions_are_no_tie(tmp_path):
    data = swept(tmp_path, {"fp32": jittered(1.0)}, SIZES)
    with Store.open(tmp_path) as store:
        store.add_variant(examples.SWEEP, examples.card("int8", 24_000))
        late = examples.cell("int8")
        store.add_cell(examples.SWEEP, late)
        for index, latency_us in enumerate(jittered(2.0)):  # of other blocks than those of fp32
            finished = examples.succeeded(latency_us)
            examples.add(store, late, 100 + index, finished)
        store.add_accuracy(examples.SWEEP, late.key, examples.accuracy_outcome(top1=0.915))
        data = read_sweep_data(store, store.find_sweep("latest"))
    assert verdict(data, "fp32", "int8") is FindingVerdict.SLOWER  # with the floor of two sweeps
    assert choose(data, data.rows, ShipLimits()).chosen.variant == "fp32"


@pytest.mark.parametrize(
    ("samples", "decimals", "change"),
    [(500, 1, -0.2), (999, 1, -0.2), (1000, 2, -0.15), (2000, 2, -0.15), (None, 1, -0.2)],
)
def test_decimals_are_those_that_the_samples_support(samples, decimals, change):
    row = ResultRow(sweep_id="x", verdict="ranked", samples=samples, top1=0.918, float_top1=0.9195)
    assert row.accuracy_decimals == decimals
    assert row.accuracy_change_points == change


def test_the_printed_change_is_that_of_the_printed_shares():
    row = ResultRow(sweep_id="x", verdict="ranked", samples=700, top1=0.91957, float_top1=0.92043)
    assert (f"{100 * row.top1:.1f}", f"{100 * row.float_top1:.1f}") == ("92.0", "92.0")
    assert row.accuracy_change_points == 0.0
