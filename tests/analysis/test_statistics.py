"""Statistics of one cell: spreads apart, outliers marked, drift, and when there are enough invocations."""

import numpy as np
import pytest

from harness.analysis.statistics import drift, enough, median_with_interval, outliers, relative_spread, within_spread

STEADY = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100.0]


def noisy(count, deviation, seed=1):
    return list(np.random.default_rng(seed).lognormal(np.log(1000), deviation, count))


def test_promise_h9_the_interval_covers_the_true_median_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = [
        estimate.low <= 1.0 <= estimate.high
        for estimate in (median_with_interval(generator.lognormal(0, 0.03, 18)) for _ in range(200))
    ]
    assert 0.90 <= np.mean(covered) <= 0.99  # neither too narrow, nor so wide that it tells nothing


def test_spread_between_processes_is_not_that_within_them():
    latencies = noisy(200, 0.10)
    assert relative_spread(latencies) == pytest.approx(1.349 * 0.10, rel=0.2)
    assert within_spread(latencies, [0.02 * latency for latency in latencies]) == pytest.approx(0.02)
    assert within_spread([100.0, 200.0], [None, 10.0]) == 0.05
    assert within_spread([100.0], [None]) is None


def test_an_invocation_on_a_slow_core_is_marked_and_kept():
    latencies = [*STEADY, 700.0]
    assert outliers(latencies) == [False] * 10 + [True]
    assert relative_spread(latencies) < 0.01  # one wild process is not the device's spread
    assert median_with_interval(latencies).count == 11


def test_equal_values_hide_no_outlier_and_make_none():
    assert outliers([100.0] * 9 + [700.0]) == [False] * 9 + [True]
    assert outliers([100.0] * 5) == [False] * 5
    assert outliers([]) == []


def test_drift_is_told_from_noise():
    rising = [latency * (1 + 0.1 * index / 17) for index, latency in enumerate(noisy(18, 0.01))]
    found = drift(rising)
    assert found.is_certain
    assert found.change == pytest.approx(0.10, abs=0.02)
    assert not drift(noisy(18, 0.01)).is_certain
    assert not drift([100.0] * 6).is_certain
    assert drift(STEADY[:4]) is None


def test_one_wild_process_is_no_drift():
    assert not drift([*STEADY, 700.0]).is_certain


def test_steady_cells_stop_early_and_noisy_ones_go_on():
    limits = {"fewest": 10, "most": 40}
    assert not enough(STEADY[:9], 0.05, **limits)  # never before the fewest
    assert enough([*STEADY, 100.0], 0.05, **limits)
    assert not enough(noisy(11, 0.10), 0.05, **limits)
    assert enough(noisy(40, 0.10), 0.05, **limits)  # the budget is spent


def test_stopping_leaves_intervals_that_cover_the_truth():
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(150):
        latencies = list(generator.lognormal(0, 0.03, 10))
        while not enough(latencies, 0.05, fewest=10, most=60):
            latencies.append(generator.lognormal(0, 0.03))
        estimate = median_with_interval(latencies)
        covered.append(estimate.low <= 1.0 <= estimate.high)
    assert np.mean(covered) >= 0.90
