"""Which cores to measure on: a set of equal ones, by their maximum frequency (promise H5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.devices.base import Core

CoreChoice = Literal["big", "little", "all"]


def choose_cores(cores: Sequence[Core], choice: CoreChoice | Sequence[int] = "big") -> tuple[int, ...]:
    """Return core numbers: the largest group of fast cores, the slowest group, all, or those named.

    A prime core that stands alone is no group to run several threads on, so `big` takes the fastest frequency that at
    least two cores share, and the fastest core alone only where all differ. Cores of unknown frequency count as equal.
    """
    if not isinstance(choice, str):
        return tuple(choice)
    if choice == "all":
        return tuple(core.index for core in cores)
    groups: dict[int, list[int]] = {}
    for core in cores:
        groups.setdefault(core.max_frequency_khz or 0, []).append(core.index)
    by_speed = sorted(groups, reverse=choice == "big")
    shared = [speed for speed in by_speed if len(groups[speed]) > 1]
    return tuple(groups[(shared or by_speed)[0]]) if groups else ()


def as_mask(cores: Sequence[int]) -> str:
    """Return the hexadecimal mask that `taskset` takes."""
    return f"{sum(1 << core for core in set(cores)):x}"
