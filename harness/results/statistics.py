"""Statistics over invocations: pure functions on plain numbers.

The unit is the invocation, since iterations inside one process are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
QUARTILES = (25, 75)


@dataclass(frozen=True)
class Estimate:
    """A median with its confidence interval; no interval where there are fewer than two values."""

    value: float
    low: float | None
    high: float | None
    count: int

    def overlaps(self, other: Estimate) -> bool:
        """Tell whether both intervals share a value; an unknown interval tells nothing apart."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


def median_with_interval(values: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Return the median with its 95 % bootstrap interval, or None for no values. Finite values only.

    The percentile bootstrap (Efron 1979), not BCa: BCa takes its acceleration from a jackknife, which for the median
    of a few values takes only two or three distinct values and is undefined where values repeat. Same values and same
    seed give the same interval.
    """
    sample = np.asarray(values, dtype=float)
    if not np.isfinite(sample).all():
        raise ValueError("the median is of finite values only")
    if len(sample) == 0:
        return None
    median = float(np.median(sample))
    if len(sample) == 1:
        return Estimate(median, None, None, 1)
    from scipy.stats import bootstrap

    interval = bootstrap(
        (sample,), np.median, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(median, float(interval.low), float(interval.high), len(sample))


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None for no values."""
    return float(np.median(values)) if len(values) else None


def relative_spread(values: Sequence[float]) -> float | None:
    """Return the interquartile range over the median: how far invocations lie apart. None for fewer than two values."""
    if len(values) < 2:  # noqa: PLR2004
        return None
    low, high = np.percentile(values, QUARTILES)
    middle = float(np.median(values))
    return float(high - low) / middle if middle else None
