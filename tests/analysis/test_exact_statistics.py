"""What is counted exactly agrees with scipy, which draws it or takes a second to load."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis import statistics
from harness.analysis.comparison import correct
from harness.analysis.statistics import drift, median_with_interval


def latencies(count, seed=1):
    return np.random.default_rng(seed).lognormal(0, 0.03, count)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 9, 10, 11, 20])
def test_the_interval_is_the_bootstraps(count):
    values = latencies(count)
    drawn = stats.bootstrap(
        (values,), np.median, n_resamples=100_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    estimate = median_with_interval(values)
    nearest = np.diff(np.sort(values)).max()  # a drawn end may fall on the next value
    assert estimate.low == pytest.approx(drawn.low, abs=nearest)
    assert estimate.high == pytest.approx(drawn.high, abs=nearest)


@pytest.mark.parametrize("count", [*range(2, 24), 99, 100, statistics.EXACT_UP_TO])
def test_the_shares_of_all_bootstrap_medians_are_shares(count):
    _, _, shares = statistics._bootstrap_medians(count)
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > -1e-12


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_the_shares_are_those_of_every_sample_there_is(count):
    samples = np.sort(np.stack(np.meshgrid(*[np.arange(count)] * count)).reshape(count, -1), axis=0)
    lower, upper = samples[(count - 1) // 2], samples[count // 2]
    for low, high, share in zip(*statistics._bootstrap_medians(count), strict=True):
        assert share == pytest.approx(np.mean((lower == low) & (upper == high)), abs=1e-12)


def test_many_values_have_an_interval_too():
    values = latencies(statistics.EXACT_UP_TO + 1)
    estimate = median_with_interval(values)
    few = median_with_interval(values[:-1])
    assert (estimate.low, estimate.high) == pytest.approx((few.low, few.high), rel=0.002)


def test_the_order_of_the_values_does_not_matter():
    values = latencies(10)
    assert median_with_interval(values) == median_with_interval(values[::-1])


@pytest.mark.parametrize("count", [5, 6, 10, 33, 34])
@pytest.mark.parametrize("digits", [1, 9])
def test_a_trend_is_as_certain_as_scipy_says(count, digits):
    values = np.round(latencies(count), digits)  # one digit: many are equal
    found = drift(values)
    expected = stats.kendalltau(np.arange(count), values).pvalue
    assert found.p_value == pytest.approx(1.0 if np.isnan(expected) else expected)
    slope = stats.theilslopes(np.log(values), np.arange(count)).slope
    assert found.change == pytest.approx(np.expm1(slope * (count - 1)))


@pytest.mark.parametrize("seed", range(10))
def test_p_values_are_corrected_as_scipy_corrects_them(seed):
    generator = np.random.default_rng(seed)
    p_values = np.round(generator.random(generator.integers(1, 30)) ** 3, 2)  # some are equal
    assert correct(list(p_values)) == pytest.approx(stats.false_discovery_control(p_values, method="bh"))
