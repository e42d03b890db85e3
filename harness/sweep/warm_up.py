"""Find how many runs one cell needs to warm up (promise H6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FEWEST_RUNS = 5
"""A window of fewer runs tells nothing of its spread."""


@dataclass(frozen=True)
class Window:
    """At least so many runs and seconds: the warm-up of one process, and again the timed part behind it."""

    runs: int
    seconds: float


class Windows(Protocol):
    """What one process of the search showed: part of a `Measurement`."""

    @property
    def warmup_runs(self) -> int | None:
        """Runs before the timed ones."""

    @property
    def warmup_window_us(self) -> float | None:
        """What a run of the warm-up took typically."""

    @property
    def timed_window_us(self) -> float | None:
        """What a timed run took typically."""


@dataclass(frozen=True)
class StoredWindows:
    """The windows of a process of the search before it was interrupted."""

    warmup_runs: int | None
    warmup_window_us: float | None
    timed_window_us: float | None


@dataclass(frozen=True)
class WarmUp:
    """What is asked of every process of one cell."""

    runs: int
    min_s: float
    converged: bool | None
    """Whether the runs after it were as fast as the runs in it; None: not tested."""


def find_warm_up(
    measure: Callable[[Window], Windows | None], *, limit: float, shortest_s: float, longest_s: float
) -> WarmUp:
    """Double the warm-up until it is as fast as what follows it, or `longest_s` is reached.

    `measure` runs one process whose warm-up and timed part are one window each; None where that failed. Two windows
    agree where their typical latencies differ by at most `limit` of the later one. Android's WarmupManager compares a
    fast moving average of single runs with a slow one; the tool prints no single runs, but it does print both windows
    of one process, which between them hold no noise of another start. What is found is a number of runs, so that
    every process of the cell warms up alike.
    """
    window = Window(FEWEST_RUNS, shortest_s)
    while True:
        measured = measure(window)
        if measured is None or (difference := window_difference(measured)) is None:
            return untested(shortest_s)
        made = measured.warmup_runs or window.runs
        if abs(difference) <= limit:
            return WarmUp(made, 0.0, converged=True)
        if 2 * window.seconds > longest_s:
            return WarmUp(made, 0.0, converged=False)
        window = Window(2 * window.runs, 2 * window.seconds)


def untested(min_s: float) -> WarmUp:
    """Return the warm-up of a cell where none was looked for: the tool's own way, one run and a shortest time."""
    return WarmUp(1, min_s, converged=None)


def window_difference(measured: Windows) -> float | None:
    """Return by which part of the timed window the warm-up was slower (above zero) or faster; None: not printed."""
    if not measured.warmup_window_us or not measured.timed_window_us:
        return None
    return measured.warmup_window_us / measured.timed_window_us - 1
