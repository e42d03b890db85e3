"""Comparing invocations: exact methods, the decision rule, and how often it is wrong on phones with known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.comparison import FindingVerdict, LatencySamples, compare, correct
from harness.analysis.noise_floor import NoiseFloor, assumed_floor, floor_between_sweeps, floor_within_sweep
from harness.analysis.ratio import estimate_by_mean, estimate_by_rank, smallest_p
from harness.spec.sweep import PRESETS

STANDARD = PRESETS["standard"]["invocations"]


def sides(generator, count, *, ratio=1.0, noise=0.03, drift=0.0, slow=0.0):
    """Latencies of two interleaved cells; `slow` is the share of processes that land on a slow core."""
    shared = np.exp(drift * np.linspace(0, 1, count))
    both = 1000 * shared * np.exp(generator.normal(0, noise, (2, count)))
    both *= np.where(generator.random((2, count)) < slow, 7.0, 1.0)
    return list(both[0]), list(ratio * both[1])


def verdicts(times, count, *, paired=True, with_floor=True, **truth):
    generator = np.random.default_rng(7)
    found = []
    for _ in range(times):
        a, b = sides(generator, count, **truth)
        floor = floor_within_sweep([a, b], count, "itself") if with_floor else None
        found += [finding.verdict for finding in compare([LatencySamples(a, b, paired, floor)])]
    return found


def share(found, *wanted):
    return sum(verdict in wanted for verdict in found) / len(found)


DIFFERENT = (FindingVerdict.FASTER, FindingVerdict.SLOWER)


@pytest.mark.parametrize("count", [6, 11, 18, 60])
def test_ranks_agree_with_scipy(count):
    generator = np.random.default_rng(count)
    a, b = (list(generator.lognormal(shift, 0.1, count)) for shift in (0, 0.08))
    method = "exact" if count <= 50 else "asymptotic"
    unpaired = estimate_by_rank(a, b, paired=False, level=0.05)
    assert unpaired.p_value == pytest.approx(stats.mannwhitneyu(a, b, method=method).pvalue, rel=1e-3)
    paired = estimate_by_rank(a, b, paired=True, level=0.05)
    logs = np.log(b) - np.log(a)
    assert paired.p_value == pytest.approx(stats.wilcoxon(logs, method=method, correction=True).pvalue, rel=1e-3)


def test_means_agree_with_scipy():
    generator = np.random.default_rng(4)
    a, b = (generator.lognormal(shift, 0.1, 5) for shift in (0, 0.2))
    paired = stats.ttest_rel(np.log(b), np.log(a))
    found = estimate_by_mean(a, b, paired=True, level=0.01)
    assert found.p_value == pytest.approx(paired.pvalue)
    assert math.log(found.interval.low) == pytest.approx(paired.confidence_interval(0.99).low)
    welch = stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    found = estimate_by_mean(a, b, paired=False, level=0.01)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert math.log(found.interval.high) == pytest.approx(welch.confidence_interval(0.99).high)


@pytest.mark.parametrize("paired", [True, False])
def test_interval_and_p_value_say_the_same_and_the_truth_is_covered(paired):
    generator = np.random.default_rng(8)
    covered = 0
    for _ in range(400):
        a, b = sides(generator, 12, ratio=1.03)
        found = estimate_by_rank(a, b, paired=paired, level=0.05)
        excludes_one = found.interval.low > 1 or found.interval.high < 1
        assert excludes_one == (found.p_value <= 0.05)
        assert found.interval.low <= found.value <= found.interval.high
        covered += found.interval.low <= 1.03 <= found.interval.high
    assert covered / 400 >= 0.93


def test_swapping_the_sides_turns_the_ratio_round():
    a, b = sides(np.random.default_rng(9), 12, ratio=1.1)
    for paired in (True, False):
        there = estimate_by_rank(a, b, paired=paired, level=0.01)
        back = estimate_by_rank(b, a, paired=paired, level=0.01)
        assert back.value == pytest.approx(1 / there.value)
        assert back.interval.low == pytest.approx(1 / there.interval.high)
        assert back.p_value == there.p_value


def test_equal_values_are_no_difference():
    (finding,) = compare([LatencySamples([100.0] * 10, [100.0] * 10, paired=True)])
    assert finding.verdict is FindingVerdict.SAME
    assert finding.estimate.value == 1.0
    (finding,) = compare([LatencySamples([100.0] * 5, [100.0] * 5, paired=True)])  # by mean, whose error is then zero
    assert finding.verdict is FindingVerdict.SAME
    (finding,) = compare([LatencySamples([100.0] * 5, [200.0] * 5, paired=True)])
    assert finding.verdict is FindingVerdict.SLOWER


def test_promise_h9_at_most_one_in_a_hundred_equal_sides_is_called_different():
    assert share(verdicts(600, STANDARD, noise=0.03), *DIFFERENT) <= 0.015
    assert share(verdicts(400, STANDARD, noise=0.148), *DIFFERENT) <= 0.02
    assert share(verdicts(400, STANDARD, noise=0.03, drift=0.2, slow=0.05), *DIFFERENT) <= 0.02
    assert share(verdicts(400, 5, noise=0.03, slow=0.05), *DIFFERENT) <= 0.02
    for paired in (True, False):  # the p-value alone keeps the rate, too
        assert share(verdicts(400, STANDARD, paired=paired, with_floor=False, noise=0.05), *DIFFERENT) <= 0.02


def test_promise_h8_a_slowdown_of_5_percent_is_found_at_preset_standard():
    found = verdicts(400, STANDARD, ratio=1.05, noise=0.03)
    assert share(found, FindingVerdict.SLOWER) >= 0.90
    assert share(found, FindingVerdict.FASTER) == 0


def test_promise_h8_interleaved_blocks_cancel_drift():
    truth = {"ratio": 1.05, "noise": 0.02, "drift": 0.3}
    assert share(verdicts(200, STANDARD, **truth), FindingVerdict.SLOWER) >= 0.90
    assert share(verdicts(200, STANDARD, paired=False, **truth), FindingVerdict.SLOWER) <= 0.30


def test_promise_h8_iterations_of_one_process_would_raise_false_alarms():
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        processes = 1000 * np.exp(generator.normal(0, 0.03, (2, 1, 1)))
        a, b = (list(side.ravel()) for side in processes * np.exp(generator.normal(0, 0.028, (2, 1, 50))))
        alarms += compare([LatencySamples(a, b, paired=False)])[0].verdict in DIFFERENT
    assert alarms / 200 > 0.30  # which is why `LatencySamples` takes one value a process


def test_slow_cores_do_not_hide_a_difference():
    assert share(verdicts(300, STANDARD, ratio=1.05, noise=0.02, slow=0.05), FindingVerdict.SLOWER) >= 0.75
    generator = np.random.default_rng(7)
    by_mean = [
        estimate_by_mean(*sides(generator, STANDARD, ratio=1.05, noise=0.02, slow=0.05), paired=True, level=0.01)
        for _ in range(300)
    ]
    assert np.mean([estimate.p_value <= 0.01 for estimate in by_mean]) <= 0.30


def test_promise_h9_nothing_under_the_noise_floor_is_called_different():
    a, b = sides(np.random.default_rng(1), 18, ratio=1.06, noise=0.005)
    assert compare([LatencySamples(a, b, True, NoiseFloor(0.03, "test"))])[0].verdict is FindingVerdict.SLOWER
    hidden = compare([LatencySamples(a, b, True, NoiseFloor(0.10, "test"))])[0]
    assert hidden.verdict is FindingVerdict.INCONCLUSIVE
    assert hidden.why == "Under the noise floor of 10.0%: test."


def test_promise_h9_sweeps_that_differ_by_themselves_are_never_called_the_same():
    a, b = sides(np.random.default_rng(1), 18, noise=0.002)
    quiet, loud = (compare([LatencySamples(a, b, False, NoiseFloor(floor, "test"))])[0] for floor in (0.01, 0.06))
    assert quiet.verdict is FindingVerdict.SAME
    assert loud.verdict is FindingVerdict.INCONCLUSIVE
    assert loud.estimate.interval.high == pytest.approx(loud.estimate.value * 1.06)


def test_a_difference_that_does_not_matter_is_the_same():
    a, b = sides(np.random.default_rng(1), 18, ratio=1.01, noise=0.002)
    assert compare([LatencySamples(a, b, True)])[0].verdict is FindingVerdict.SAME
    assert compare([LatencySamples(a, b, True)], effect=0.005)[0].verdict is FindingVerdict.SLOWER


def test_promise_h8_fewer_than_five_invocations_conclude_nothing():
    (finding,) = compare([LatencySamples([1.0, 1.01, 1.02, 1.01], [9.0, 9.1, 9.2, 9.0], paired=True)])
    assert finding.verdict is FindingVerdict.INCONCLUSIVE
    assert finding.why == "4 pairs are too few; 5 are the least that show a spread."


def test_many_cells_at_once_are_corrected():
    generator = np.random.default_rng(11)
    alarms = uncorrected = 0
    for _ in range(60):
        samples = [LatencySamples(*sides(generator, 18, noise=0.04), paired=True) for _ in range(20)]
        findings = compare(samples)
        alarms += any(finding.verdict in DIFFERENT for finding in findings)
        uncorrected += any(finding.estimate.p_value <= 0.01 for finding in findings)
    assert alarms <= 3
    assert uncorrected > 3 * alarms


def test_a_clear_difference_among_many_cells_is_found_even_at_preset_quick():
    generator = np.random.default_rng(12)
    samples = [LatencySamples(*sides(generator, 5), paired=True) for _ in range(9)]
    samples.append(LatencySamples(*sides(generator, 5, ratio=2.5), paired=True))
    assert smallest_p(5, 5, paired=True) > 0.01  # ranks alone could never find it
    assert [finding.verdict for finding in compare(samples)].count(FindingVerdict.SLOWER) == 1


def test_promise_h9_the_correction_is_that_of_benjamini_and_hochberg():
    assert correct([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert correct([]) == []


def test_the_floor_within_a_sweep_shrinks_with_pairs_and_ignores_drift_and_wild_processes():
    generator = np.random.default_rng(13)
    cells = [1000 * np.exp(generator.normal(0, 0.03, 40)) for _ in range(5)]
    floor = floor_within_sweep(cells, 18, "test").value
    assert floor == pytest.approx(2.6 * 0.03 * math.sqrt(2 / 18), rel=0.2)
    assert floor_within_sweep(cells, 72, "test").value == pytest.approx(floor / 2, rel=0.05)
    drifting = [cell * np.linspace(1, 1.3, 40) for cell in cells]
    assert floor_within_sweep(drifting, 18, "test").value == pytest.approx(floor, rel=0.1)
    wild = [np.where(np.arange(40) == 5, 7 * cell, cell) for cell in cells]
    assert floor_within_sweep(wild, 18, "test").value == pytest.approx(floor, rel=0.2)
    assert floor_within_sweep([[1.0]], 5, "test") is None


def test_promise_h9_two_new_sweeps_stay_under_the_floor_of_the_others():
    generator = np.random.default_rng(14)
    over = 0
    for _ in range(2000):
        sweeps = 1000 * np.exp(generator.normal(0, 0.05, 8))
        floor = floor_between_sweeps([list(sweeps[:6])], "test").value
        over += max(sweeps[6:]) / min(sweeps[6:]) - 1 > floor
    assert 0.003 <= over / 2000 <= 0.018
    assert floor_between_sweeps([[1.0], [2.0]], "test") is None


def test_cells_of_the_same_sweeps_do_not_count_as_more_sweeps():
    once = floor_between_sweeps([[1.00, 1.02, 0.99]], "test").value
    assert floor_between_sweeps([[1.00, 1.02, 0.99]] * 5, "test").value == pytest.approx(once)


def test_without_any_knowledge_two_sweeps_must_differ_by_a_lot():
    assert 0.5 < assumed_floor().value < 0.8
