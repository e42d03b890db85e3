"""Statistics over invocations: pure functions on plain numbers.

The unit is the invocation, since iterations inside one process are not independent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]

CONFIDENCE = 0.95
EXACT_UP_TO = 200
"""Values of a cell for which all bootstrap samples are counted; of more, `RESAMPLES` are drawn."""
RESAMPLES = 9999
QUARTILES = (0.25, 0.75)

OUTLIER_SCORE = 3.5
"""Modified z-score beyond which a value is marked (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""
MEDIAN_DEVIATION = 0.6745
MEAN_DEVIATION = 1.253314
"""A normal variable's median absolute deviation in standard deviations, and one over its mean absolute deviation."""

FEWEST_FOR_DRIFT = 5
EXACT_TREND_UP_TO = 33
"""As in scipy."""
DRIFT_LEVEL = 0.01


@dataclass(frozen=True)
class Estimate:
    """A median with its confidence interval; no interval where there are fewer than two values."""

    value: float
    low: float | None
    high: float | None
    count: int

    def overlaps(self, other: Estimate) -> bool:
        """Return True if both intervals share a value; an unknown interval tells nothing apart."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


def median_with_interval(values: Sequence[float]) -> Estimate | None:
    """Return the median with its 95 % bootstrap interval, or None for no values. Finite values only.

    The percentile bootstrap (Efron 1979), not BCa: BCa takes its acceleration from a jackknife, which for the median
    of a few values takes only two or three distinct values and is undefined where values repeat. Nothing is drawn: the
    median of a sample with replacement is one of the values, or lies between two, and how often each is known exactly.
    """
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        raise ValueError("the median is of finite values only")
    if len(sample) == 0:
        return None
    median = float(np.median(sample))
    if len(sample) == 1:
        return Estimate(median, None, None, 1)
    low, high = _bootstrap_interval(np.sort(sample))
    return Estimate(median, low, high, len(sample))


def _bootstrap_interval(ordered: Floats) -> tuple[float, float]:
    """Return the ends of the percentile interval: as far out as 2.5 % of all bootstrap medians reach on each side."""
    if len(ordered) > EXACT_UP_TO:
        return _drawn_interval(ordered)
    lower, upper, shares = _bootstrap_medians(len(ordered))
    medians = (ordered[lower] + ordered[upper]) / 2
    order = np.argsort(medians, kind="stable")
    medians, cumulative = medians[order], np.cumsum(shares[order])
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(cumulative, tail))
    high = int(np.searchsorted(cumulative, cumulative[-1] - tail))
    return float(medians[low]), float(medians[high])


def _drawn_interval(ordered: Floats) -> tuple[float, float]:
    from scipy.stats import bootstrap

    interval = bootstrap(
        (ordered,),
        np.median,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


@functools.cache
def _bootstrap_medians(count: int) -> tuple[Ranks, Ranks, Floats]:
    """Return between which two of `count` ordered values the median of a sample with replacement lies, and how often.

    Of the n draws, the lower middle one is the m-th smallest, m = n / 2 rounded up; below a value with k values up to
    and including it lie binomially many draws. With an even n, both middle draws are values i < j where m draws are at
    most i, one of them i itself, and all others at least j, one of them j itself.
    """
    half = (count + 1) // 2
    up_to = np.arange(count + 1) / count
    draws = np.arange(half, count + 1)
    ways = np.array([math.comb(count, int(draw)) for draw in draws], dtype=float)
    reached = (ways * up_to[:, None] ** draws * (1 - up_to[:, None]) ** (count - draws)).sum(axis=1)
    each = np.diff(reached)
    ranks = np.arange(count)
    if count % 2:
        return ranks, ranks, each
    lower, upper = np.triu_indices(count, 1)
    below = up_to[lower + 1] ** half - up_to[lower] ** half
    above = (1 - up_to[upper]) ** half - (1 - up_to[upper + 1]) ** half
    apart = math.comb(count, half) * below * above
    same = each - np.bincount(lower, weights=apart, minlength=count)
    return np.append(ranks, lower), np.append(ranks, upper), np.append(same, apart)


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None for no values."""
    if not len(values):
        return None
    ordered = sorted(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def relative_spread(values: Sequence[float]) -> float | None:
    """Return the interquartile range over the median: how far invocations lie apart. None for fewer than two values."""
    if len(values) < 2:  # noqa: PLR2004
        return None
    ordered = sorted(map(float, values))
    low, high = (_quantile(ordered, share) for share in QUARTILES)
    middle = median(ordered)
    return (high - low) / middle if middle else None


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return what `numpy.quantile` does, without the cost of an array per cell."""
    place = share * (len(ordered) - 1)
    below = int(place)
    a, b = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    part = place - below
    return b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part  # noqa: PLR2004 - as numpy rounds


def within_spread(latencies: Sequence[float], deviations: Sequence[float | None]) -> float | None:
    """Return the median share by which the iterations of one process differ: 0.03 is 3 %. None if none is known.

    `latencies` holds one positive value per invocation and `deviations` its iterations' standard deviation, in the same
    unit. It is never an error bar: it says nothing about how far the next process will be off (`relative_spread` does).
    """
    pairs = zip(latencies, deviations, strict=True)
    return median([own / latency for latency, own in pairs if own is not None])


def outliers(values: Sequence[float]) -> list[bool]:
    """Mark the positive values that lie far from the rest, in the same order. They are marked, never dropped.

    Modified z-scores of the logarithms, since a process on a slow core takes a multiple of the time. Where more than
    half of the values are equal, the mean deviation stands in for the median deviation.
    """
    logs = np.log(np.asarray(values, dtype=float))
    if len(logs) == 0:
        return []
    distances = np.abs(logs - np.median(logs))
    deviation = float(np.median(distances)) / MEDIAN_DEVIATION or float(distances.mean()) * MEAN_DEVIATION
    return [bool(distance > OUTLIER_SCORE * deviation) for distance in distances] if deviation else [False] * len(logs)


@dataclass(frozen=True)
class Drift:
    """A steady change from the first value to the last."""

    change: float
    """Relative: 0.05 says that the last values are 5 % above the first."""
    p_value: float
    """How often chance alone would order the values at least so steadily."""

    @property
    def is_certain(self) -> bool:
        """Return True if it is more than chance, at 1 %."""
        return self.p_value <= DRIFT_LEVEL


def drift(values: Sequence[float]) -> Drift | None:
    """Return the drift of positive values in the order of time; None for fewer than five.

    Mann's test of a trend (1945) with the Theil-Sen slope of the logarithms: single wild values do not make a drift.
    """
    if len(values) < FEWEST_FOR_DRIFT:
        return None
    logs = np.log(np.asarray(values, dtype=float))
    first, second = np.triu_indices(len(logs), 1)
    rises = logs[second] - logs[first]
    slope = float(np.median(rises / (second - first)))
    return Drift(float(np.expm1(slope * (len(values) - 1))), _trend_p_value(logs, rises))


def _trend_p_value(logs: Floats, rises: Floats) -> float:
    """Return how often values in a random order would have so few rises, or so few falls, among all their pairs.

    Exactly so for a few different values, as a cell has; scipy knows what equal ones and many do to the distribution.
    """
    if len(logs) <= EXACT_TREND_UP_TO and rises.all():
        fewer = int(min((rises > 0).sum(), (rises < 0).sum()))
        return min(1.0, float(2 * _falls_by_chance(len(logs))[: fewer + 1].sum()))
    from scipy.stats import kendalltau

    return float(kendalltau(np.arange(len(logs)), logs).pvalue) if np.ptp(logs) else 1.0


@functools.cache
def _falls_by_chance(count: int) -> Floats:
    """Return the share of all orders of `count` different values by the number of their falling pairs.

    A value that is put in front of k others makes 0 to k more, each as often.
    """
    shares = np.ones(1)
    for others in range(1, count):
        shares = np.convolve(shares, np.ones(others + 1) / (others + 1))
    return shares


def enough(medians: Sequence[float], relative_width: float, *, fewest: int, most: int) -> bool:
    """Return True if a cell has enough invocations: its interval is as narrow as asked, or its budget is spent.

    To be asked after each block: `medians` holds one positive latency per invocation so far; `relative_width` is the
    whole width of the median's 95 % interval over the median. Stopping looks at the width alone, never at a
    difference, so that it cannot stop where chance happens to favour one side (Chow and Robbins 1965). The interval
    must be narrow now and must have been before the last invocation, since a width that touches the limit once by
    chance would stop too early and leave intervals that cover the truth too rarely.
    """
    if len(medians) >= most:
        return True
    return len(medians) >= fewest and all(
        _relative_width(seen) <= relative_width for seen in (medians, medians[: len(medians) - 1])
    )


def _relative_width(values: Sequence[float]) -> float:
    """Return the width of the median's interval over the median, from order statistics: no resampling in a loop."""
    from scipy.stats import binom

    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5))  # as many values may lie outside on each side
    if cut == 0:
        return float("inf")
    return float((ordered[-cut] - ordered[cut - 1]) / np.median(ordered))
