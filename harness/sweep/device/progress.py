"""Track one device's progress and estimate its remaining time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from harness.analysis.statistics import median_with_interval
from harness.benchmark.invocation import Pass
from harness.devices.device import DeviceFacts
from harness.devices.state.telemetry import Telemetry
from harness.devices.state.thermal_gate import Cooling, hottest
from harness.progress import DeviceEvent, DeviceStatus, Observer, Temperature
from harness.store.records import Cell
from harness.sweep.device.gated_tool import GatedInvocation
from harness.sweep.plan import PlannedInvocation


class DeviceProgress:
    """The status of one device; the observer sees every change."""

    def __init__(self, observer: Observer, facts: DeviceFacts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._observer = observer
        self._status = DeviceStatus(facts.serial, facts.title)
        self._remaining = RemainingTime(clock)
        self._counts: Counter[tuple[str, str]] = Counter()
        """Planned processes by cell key and pass."""
        self._may_grow = False
        self._has_worked = False
        """True if anything was run since the last step ended."""
        self._tell(DeviceEvent.BEGAN)

    def plan(
        self,
        cells: Sequence[Cell],
        planned: Sequence[PlannedInvocation],
        *,
        windows: int,
        done: Collection[tuple[str, Pass, int]],
        set_up: Collection[str],
        abandoned: Collection[str],
        may_end_early: bool,
        may_grow: bool,
    ) -> None:
        """Take in all that is to be done, of which `done` is not done again.

        `windows` is how many a cell is run for without a pause; `set_up` and `abandoned` hold keys of cells. Planned
        again, what is new comes on top; `may_grow` says that it may happen.
        """
        places = [(place.cell.key, place.purpose, place.index) for place in planned]
        places += [(cell.key, Pass.SUSTAINED, index) for cell in cells for index in range(windows)]
        self._may_grow = may_grow
        self._counts = Counter((key, purpose) for key, purpose, _ in places)
        steps = Counter(
            (key, StepKind.WINDOW if purpose is Pass.SUSTAINED else StepKind.PROCESS)
            for key, purpose, index in places
            if (key, purpose, index) not in done
        )
        steps.update((cell.key, StepKind.SETUP) for cell in cells if cell.key not in set_up)
        self._remaining.plan(steps)
        for key in abandoned:
            self._remaining.drop(key)
        self._tell(
            DeviceEvent.PLANNED,
            steps=self._status.steps_done + len(cells) + len(places),
            abandoned=len(abandoned),
            is_upper_bound=may_end_early,
        )

    def running(self, cell: Cell, doing: str, index: int | None = None) -> None:
        """Report that a process of a pass starts, or other work called `doing`."""
        self._has_worked = True
        number = 0 if index is None else index + 1
        of = self._counts[cell.key, doing]
        self._tell(DeviceEvent.RUNNING, cell=_name(cell), doing=doing, number=number, of=of, reason="")

    def cooling(self, wait: Cooling) -> None:
        """Report a wait for the device to cool."""
        self._tell(DeviceEvent.COOLING, reason=wait.reason, wait_left_s=wait.left_s, heat=_heat(wait.look))

    def waiting(self) -> None:
        """Report that the device waits for more variants."""
        self._tell(DeviceEvent.WAITING)

    def finished(self, gated: GatedInvocation, *, is_made_again: bool) -> None:
        """Report how a process ended."""
        status, failure = self._status, gated.invocation.failure
        look = gated.after or gated.before
        heat = _heat(look) if look else status.heat
        if failure is None:
            self._tell(DeviceEvent.FINISHED, heat=heat)
        elif is_made_again:
            self._tell(DeviceEvent.AGAIN, heat=heat, reason=failure.message, redos=status.redos + 1)
        else:
            self._tell(DeviceEvent.FAILED, heat=heat, reason=failure.failure_class, failures=status.failures + 1)

    def away(self, reason: str) -> None:
        """Report a wait for the device to respond again."""
        self._tell(DeviceEvent.AWAY, reason=reason)

    def abandoned(self, cell: Cell) -> None:
        """Drop the open steps of a cell."""
        self._remaining.drop(cell.key)
        self._status = replace(self._status, abandoned=self._status.abandoned + 1)

    def step_done(self, cell: Cell, kind: StepKind, latencies_us: Sequence[float] = ()) -> None:
        """Tell that a step is over. `latencies_us` are all of its cell, with the one of this step as the last."""
        self._remaining.done((cell.key, kind), is_timed=self._has_worked)
        changes: dict[str, Any] = {"steps_done": self._status.steps_done + 1}
        is_measured = self._status.news is DeviceEvent.FINISHED
        if is_measured and latencies_us and (estimate := median_with_interval(latencies_us)):
            interval = None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
            changes |= {"latency_us": estimate.value, "latency_cell": _name(cell), "interval_us": interval}
        news = DeviceEvent.STEP if self._has_worked else DeviceEvent.SKIPPED
        self._has_worked = False
        self._tell(news, **changes)

    def ended(self) -> None:
        """Report that the device is finished."""
        self._tell(DeviceEvent.ENDED, reason="")

    def _tell(self, news: DeviceEvent, **changes: Any) -> None:  # noqa: ANN401 - the fields of a status
        left = self._remaining.left()
        changes = {"wait_left_s": None, **changes}
        is_lower_bound = left.is_lower_bound or self._may_grow
        self._status = replace(self._status, news=news, left_s=left.seconds, is_lower_bound=is_lower_bound, **changes)
        self._observer.show(self._status)


def _name(cell: Cell) -> str:
    threads = f" {cell.threads} threads" if cell.threads > 1 else ""
    return f"{cell.variant_name} {cell.delegate}{threads}"


def _heat(look: Telemetry) -> Temperature:
    sensor, degrees_c = hottest(look) or (None, None)
    return Temperature(sensor, degrees_c, look.thermal_status)


class StepKind(StrEnum):
    """Steps of one kind and cell take about the same time."""

    SETUP = "setup"
    """Cold and warm load, warm-up search and output check."""
    PROCESS = "process"
    """One process of any pass with the spec's number of runs."""
    WINDOW = "window"
    """One window of a sustained run."""


Step = tuple[str, StepKind]
"""A cell's key and what is done for it."""


@dataclass(frozen=True)
class TimeLeft:
    """An estimate of the remaining time."""

    seconds: float | None
    """None if no such step was timed yet, or none is open."""
    is_lower_bound: bool
    """True if open steps of a kind that was never timed are left out."""


class RemainingTime:
    """Estimate one device's remaining time from its finished steps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Counter[Step] = Counter()
        self._seconds: dict[Step, list[float]] = {}
        self._begun = clock()

    def plan(self, steps: Mapping[Step, int]) -> None:
        """Set how often each step is to be done; the first one begins now."""
        self._open = Counter(steps)
        self._begun = self._clock()

    def done(self, step: Step, *, is_timed: bool) -> None:
        """Finish one step; `is_timed` is False if it was skipped. The next one begins now."""
        now = self._clock()
        if is_timed:
            self._seconds.setdefault(step, []).append(now - self._begun)
        if self._open[step] > 0:
            self._open[step] -= 1
        self._begun = now

    def drop(self, cell_key: str) -> None:
        """Drop all open steps of a cell."""
        for step in self._open:
            if step[0] == cell_key:
                self._open[step] = 0

    def left(self) -> TimeLeft:
        """Add up the open steps: each takes the mean time of its kind in its own cell, or else in all cells.

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
