"""How long the rest of one device's work takes, from nothing but the times of what is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    """Steps of one kind and cell take about as long as one another."""

    GROUND = "ground"
    """How a cell loads and warms up, and what its outputs are."""
    PROCESS = "process"
    """One process of any pass with the spec's number of runs."""
    WINDOW = "window"
    """One window of a sustained run."""


Step = tuple[str, StepKind]
"""A cell's key and what is done for it."""


@dataclass(frozen=True)
class TimeLeft:
    """What can be told of the rest."""

    seconds: float | None
    """None: nothing like it was timed yet, or nothing is open."""
    is_lower_bound: bool
    """Whether open steps of a kind that was never timed are left out."""


class RemainingTime:
    """A ledger of open steps and of the times of those that are done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Counter[Step] = Counter()
        self._seconds: dict[Step, list[float]] = {}
        self._begun = clock()

    def plan(self, steps: Mapping[Step, int]) -> None:
        """Take in how often each step is to be done; the first one begins now."""
        self._open = Counter(steps)
        self._begun = self._clock()

    def done(self, step: Step, *, is_timed: bool) -> None:
        """Cross out one step; `is_timed` says whether it needed anything to be done. The next one begins now."""
        now = self._clock()
        if is_timed:
            self._seconds.setdefault(step, []).append(now - self._begun)
        if self._open[step] > 0:
            self._open[step] -= 1
        self._begun = now

    def drop(self, cell_key: str) -> None:
        """Cross out all that is open of a cell."""
        for step in self._open:
            if step[0] == cell_key:
                self._open[step] = 0

    def left(self) -> TimeLeft:
        """Add up the open steps: each takes the mean time of its like, in its own cell or else in all cells.

        The time that the step under way has taken is subtracted, but no more than one step is worth.
        """
        open_steps = {step: count for step, count in self._open.items() if count}
        expected = {step: self._expected_s(step) for step in open_steps}
        known = {step: seconds for step, seconds in expected.items() if seconds is not None}
        if not known:
            return TimeLeft(None, is_lower_bound=bool(open_steps))
        total_s = sum(seconds * open_steps[step] for step, seconds in known.items())
        under_way_s = min(self._clock() - self._begun, _mean(list(known.values())))
        return TimeLeft(max(0.0, total_s - under_way_s), is_lower_bound=len(known) < len(open_steps))

    def _expected_s(self, step: Step) -> float | None:
        seconds = self._seconds.get(step) or [
            taken for (_, kind), times in self._seconds.items() if kind is step[1] for taken in times
        ]
        return _mean(seconds) if seconds else None


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)
