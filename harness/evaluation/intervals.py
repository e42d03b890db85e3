"""Percentile bootstrap intervals (Efron 1979) of figures that are made of sums over samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.statistics import CONFIDENCE

Floats = NDArray[np.float64]
RESAMPLES = 1999
"""Drawn again from the samples; the ends of an interval are its 50th values from either side."""


@dataclass(frozen=True)
class SampleInterval:
    """A figure with its 95 % interval over samples; no interval where it would say nothing."""

    value: float
    low: float | None = None
    high: float | None = None


def sum_statistic(parts: Floats, statistic: Callable[[Floats], Floats]) -> SampleInterval:
    """Return `statistic` of the sums of `parts` over all samples, with its interval.

    `parts` is (samples, sums); `statistic` takes (any, sums) and returns (any,). The same draws for the same number of
    samples, so that what is compared is compared on the same draws.
    """
    count = len(parts)
    value = float(statistic(parts.sum(axis=0)[None])[0])
    if count < 2:  # noqa: PLR2004 - one sample says nothing about the spread
        return SampleInterval(value)
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    found = statistic(draws @ parts)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, (tail, 100 - tail))
    return SampleInterval(value, float(low), float(high))


def mean_of(values: Floats) -> SampleInterval:
    """Return the mean over samples with its interval."""
    return sum_statistic(np.column_stack([values, np.ones(len(values))]), lambda sums: sums[:, 0] / sums[:, 1])
