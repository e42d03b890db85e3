"""The noise floor: how far a device differs from itself. No smaller difference is ever called one (promise H9).

Two questions have two floors. Cells of one sweep were measured in turns, so that whatever changes slowly falls on both
sides: there the floor comes from neighbouring processes of the same cell. Two sweeps also differ by all that happened
between them (another temperature, another place in memory, an update): that shows only if the same was swept
several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FALSE_ALARMS = 0.01
"""Share of A/A comparisons that may exceed the floor."""

ASSUMED_BETWEEN_SWEEPS = 0.148
"""Deviation of the logarithm of one sweep from another's on a device of which nothing is known: what mui/mui-public,
pull request 1712, found between its runs while iterations within a run differed by 2.8 %."""

NORMAL_QUARTILE = 0.6745
"""The median absolute value of a normal variable over its standard deviation."""


@dataclass(frozen=True)
class NoiseFloor:
    """`value` is a relative difference such as 0.03: like against like stays under it in 99 of 100 comparisons."""

    value: float
    source: str
    """Where it comes from, in a few words."""


def floor_within_sweep(cells: Sequence[Sequence[float]], pairs: int, source: str) -> NoiseFloor | None:
    """Return the floor of a comparison of `pairs` pairs inside one sweep; None if no cell has two values.

    `cells` holds the latencies of each cell in the order of its blocks. Any two neighbours are an A/A pair (von
    Neumann 1941: what drifts slowly cancels); the spread of their log ratios is taken by its median, so that a few wild
    processes do not raise the floor.
    """
    ratios = np.concatenate([np.diff(np.log(latencies)) for latencies in cells] or [np.empty(0)])
    if len(ratios) == 0:
        return None
    from scipy.special import stdtrit

    spread = float(np.median(np.abs(ratios))) / NORMAL_QUARTILE
    reach = -float(stdtrit(len(ratios), FALSE_ALARMS / 2)) * spread / np.sqrt(pairs)
    return NoiseFloor(float(np.expm1(reach)), source)


def floor_between_sweeps(cells: Sequence[Sequence[float]], source: str) -> NoiseFloor | None:
    """Return the floor of a comparison between two sweeps; None if no cell was swept twice.

    `cells` holds for each cell its latency in each of several sweeps. Of two new sweeps, the log ratio stays under
    t * sqrt(2) * s: the prediction interval of a difference. Cells of one sweep share what moved it, so that the
    degrees of freedom are those of the cell with the most sweeps, not their sum.
    """
    repeated = [np.log(np.asarray(latencies, dtype=float)) for latencies in cells if len(latencies) > 1]
    if not repeated:
        return None
    from scipy.special import stdtrit

    freedom = max(len(logs) for logs in repeated) - 1
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in repeated)
    spread = np.sqrt(squares / sum(len(logs) - 1 for logs in repeated))
    reach = -float(stdtrit(freedom, FALSE_ALARMS / 2)) * np.sqrt(2) * spread
    return NoiseFloor(float(np.expm1(reach)), source)


def assumed_floor() -> NoiseFloor:
    """Return the floor between two sweeps of a device that was never measured against itself."""
    from scipy.special import ndtri

    reach = -float(ndtri(FALSE_ALARMS / 2)) * np.sqrt(2) * ASSUMED_BETWEEN_SWEEPS
    return NoiseFloor(float(np.expm1(reach)), "assumed; `harness noise` measures it")
