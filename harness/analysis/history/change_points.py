"""Find where a series of nightly latencies steps to another level: pure functions on plain numbers.

The series is divided as e-divisive does it (Matteson and James 2014; Apache Otava builds on it): find the division that
sets the pieces most apart, ask by permutation whether chance would do as well, then divide the pieces. Two divisions
are tried, a cut in two, and an arc that differs from what lies before and after it (circular binary segmentation,
Olshen and others 2004), since a slowdown that was repaired again hardly moves the mean of either half.

Values are replaced by their normal scores (van der Waerden 1952): a night on a hot phone is just the largest value, not
a step, and what chance does depends on the number of nights alone, whatever the noise looks like. Only nights that
depend on one another (a drift) break this: a slow drift is found as one or several steps.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_NIGHTS = 3
"""Nights on each side of a step: one or two nights out of line are weather, not climate."""
FALSE_ALARMS = 0.001
"""Chance that equal nights are divided at one look. A look every night for 60 nights then raises a false alarm in less
than 1 % of the cells (`benchmarks/change_points.py`)."""

_FIRST_RESAMPLES = 999
_FIRST_LEVEL = 0.05
_RESAMPLES = 19_999
"""Most series are plainly quiet or plainly not: few permutations tell; only what looks like a step gets all of them."""

_NOTHING = 1e-12
"""Share of the variance under which what is left over is rounding."""
_PLACE_RATIO = -2 * np.log(1 - np.sqrt(0.95))
"""Likelihood ratio that covers the place of a step in 95 % of the cases (Eo and Morley 2015)."""


@dataclass(frozen=True)
class LevelShift:
    """A step between two nights, as positions in the series: `at` is the first night of the new level."""

    at: int
    earliest: int
    latest: int
    """The 95 % confidence set of `at` lies between these two."""


def find_level_shifts(latencies: Sequence[float], *, false_alarms: float = FALSE_ALARMS) -> list[LevelShift]:
    """Return the steps of a series of positive values in the order of time."""
    scores = _normal_scores(np.asarray(latencies, dtype=float))
    cuts = _prune(scores, sorted(_divide(scores, 0, false_alarms)), false_alarms)
    edges = [0, *cuts, len(scores)]
    return [_locate(scores, *edges[index : index + 3]) for index in range(len(cuts))]


def _normal_scores(values: Floats) -> Floats:
    """Return the values that a normal sample of the same order would have; equal values share theirs."""
    from scipy.stats import norm, rankdata

    if not np.isfinite(values).all():
        raise ValueError("a series holds finite values only")
    scores: Floats = norm.ppf((rankdata(values) - 0.5) / max(len(values), 1))
    return scores


def _divide(scores: Floats, offset: int, false_alarms: float) -> Iterator[int]:
    """Yield the cuts of a piece of a series that begins at `offset`, and those of its parts."""
    cuts = _first_cuts(_normal_scores(scores), false_alarms)
    if not cuts:
        return
    edges = [0, *cuts, len(scores)]
    for start, end in itertools.pairwise(edges):
        yield from _divide(scores[start:end], offset + start, false_alarms)
    yield from (offset + cut for cut in cuts)


def _first_cuts(scores: Floats, false_alarms: float) -> list[int]:
    """Return the one cut, or else the two ends of the arc, that chance does not explain; each gets half the alarms."""
    if len(scores) < 2 * FEWEST_NIGHTS or not np.ptp(scores):
        return []
    split, arc = _best_split(scores[:, None]), _best_arc(scores[:, None])
    if _chance(scores, "split", float(split.distance[0])) <= false_alarms / 2:
        return [int(split.start[0])]
    if _chance(scores, "arc", float(arc.distance[0])) <= false_alarms / 2:
        return [int(cut) for cut in (arc.start[0], arc.end[0]) if 0 < cut < len(scores)]
    return []


def _prune(scores: Floats, cuts: list[int], false_alarms: float) -> list[int]:
    """Take away what does not part its two neighbours: an arc may end by chance inside a level."""
    for index, cut in enumerate(cuts):
        before, after = [0, *cuts][index], [*cuts, len(scores)][index + 1]
        around = _normal_scores(scores[before:after])
        size = cut - before
        distance = abs(float(around[:size].sum())) / np.sqrt(size * (len(around) - size) / len(around))
        if _chance(around, "split", distance) > false_alarms:
            return _prune(scores, cuts[:index] + cuts[index + 1 :], false_alarms)
    return cuts


def _locate(scores: Floats, before: int, cut: int, after: int) -> LevelShift:
    """Return a cut with the other places that the nights between its neighbours make almost as likely."""
    around = scores[before:after]
    sizes = np.arange(1, len(around))
    sums = np.cumsum(around - around.mean())[:-1]
    gained = sums**2 * len(around) / (sizes * (len(around) - sizes))
    total = float(((around - around.mean()) ** 2).sum())
    left_over = np.maximum(total - gained, _NOTHING * total)
    chosen = left_over[cut - before - 1]
    likely = sizes[len(around) * np.log(left_over / chosen) <= _PLACE_RATIO] + before
    return LevelShift(cut, min(int(likely.min()), cut), max(int(likely.max()), cut))


# ---- the two statistics, for many series at once: one a column ----


@dataclass(frozen=True)
class _Best:
    """For each series how far the best division sets it apart (in deviations, up to a constant), and where it lies."""

    distance: Floats
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def _best_split(columns: Floats) -> _Best:
    """Cut in two so that the means differ most: with fixed total variance, the largest t of two samples."""
    count = len(columns)
    sizes = np.arange(FEWEST_NIGHTS, count - FEWEST_NIGHTS + 1)
    sums = np.cumsum(columns, axis=0)[sizes - 1]  # normal scores sum to zero
    distances = np.abs(sums) / np.sqrt(sizes * (count - sizes) / count)[:, None]
    best = distances.argmax(axis=0)
    return _Best(distances.max(axis=0), sizes[best], np.full(columns.shape[1], count))


def _best_arc(columns: Floats) -> _Best:
    """Find the run of nights whose mean differs most from that of all others; what is left over is no sliver."""
    count, series = columns.shape
    sums = np.concatenate([np.zeros((1, series)), np.cumsum(columns, axis=0)])
    distance, start, end = np.full(series, -1.0), np.zeros(series, np.int64), np.zeros(series, np.int64)
    for size in range(FEWEST_NIGHTS, count - FEWEST_NIGHTS + 1):
        starts = np.array([0, *range(FEWEST_NIGHTS, count - size - FEWEST_NIGHTS + 1), count - size])
        distances = np.abs(sums[starts + size] - sums[starts]) / np.sqrt(size * (count - size) / count)
        best = distances.argmax(axis=0)
        here = distances[best, np.arange(series)]
        better = here > distance
        distance = np.where(better, here, distance)
        start, end = np.where(better, starts[best], start), np.where(better, starts[best] + size, end)
    return _Best(distance, start, end)


_STATISTICS = {"split": _best_split, "arc": _best_arc}


def _chance(scores: Floats, statistic: str, distance: float) -> float:
    """Return how often a series in random order is divided at least as far (Besag and Clifford 1991: in two goes)."""
    values = tuple(sorted(float(score) for score in scores))
    first = _share_above(_permuted(values, statistic, _FIRST_RESAMPLES), distance)
    return first if first > _FIRST_LEVEL else _share_above(_permuted(values, statistic, _RESAMPLES), distance)


def _share_above(permuted: Floats, distance: float) -> float:
    above = len(permuted) - int(np.searchsorted(permuted, distance * (1 - 1e-9)))
    return (1 + above) / (1 + len(permuted))


@functools.lru_cache(maxsize=256)
def _permuted(values: tuple[float, ...], statistic: str, resamples: int) -> Floats:
    """Return the statistic of many permutations, sorted. Without ties it depends on the number of nights alone."""
    from scipy.stats import permutation_test

    def distances(columns: Floats, axis: int) -> Floats:
        return _STATISTICS[statistic](np.moveaxis(np.atleast_2d(columns), axis, 0).reshape(len(values), -1)).distance

    result = permutation_test(
        (np.array(values),),
        distances,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=resamples,
        batch=5000,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return np.sort(np.asarray(result.null_distribution, dtype=float).ravel())
