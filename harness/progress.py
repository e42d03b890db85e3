"""Progress events: the command line draws them, a notebook's callback receives them, tests record them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class DeviceEvent(StrEnum):
    """What happened last on a device."""

    BEGAN = "began"
    """Its preparation begins; nothing is planned yet."""
    PLANNED = "planned"
    RUNNING = "running"
    """A process of the tool, or the check of a cell's outputs, begins."""
    WAITING = "waiting"
    """It has nothing to do until more variants are made."""
    COOLING = "cooling"
    """Waiting for the device to cool; repeated at every poll."""
    FINISHED = "finished"
    """A process ended well; its step may hold more of them."""
    FAILED = "failed"
    AGAIN = "again"
    """A process failed, such as by throttling, and is made once more."""
    AWAY = "away"
    """It is waited for until it answers again."""
    STEP = "step"
    """A step of the plan is done."""
    SKIPPED = "skipped"
    """A step of the plan needed nothing: it was done before, its cell was abandoned, or is measured well enough."""
    ENDED = "ended"


@dataclass(frozen=True)
class Temperature:
    """How hot a device was at the last look. None: it does not tell."""

    sensor: str | None
    """The hottest one."""
    degrees_c: float | None
    thermal_status: int | None


@dataclass(frozen=True)
class DeviceStatus:
    """All that a watcher can know of one device of a running sweep. Numbers of steps and processes count from 1."""

    serial: str
    title: str
    news: DeviceEvent = DeviceEvent.BEGAN
    cell: str = ""
    """What is under way, such as `int8 gpu`."""
    doing: str = ""
    """A pass of the tool, or `accuracy`."""
    number: int = 0
    of: int = 0
    """Process `number` of this many of this cell and pass; 0: not known beforehand."""
    heat: Temperature | None = None
    latency_us: float | None = None
    """Median so far of the cell that was timed last."""
    latency_cell: str = ""
    interval_us: tuple[float, float] | None = None
    """95 % interval of that cell's median so far; None for fewer than two processes."""
    steps_done: int = 0
    steps: int = 0
    left_s: float | None = None
    """Time that is left, from the times of steps that are done; None: nothing is timed yet."""
    is_lower_bound: bool = False
    """True if a kind of step that is open was never timed here, so that `left_s` leaves it out."""
    is_upper_bound: bool = False
    """True if cells may end before all their processes are run."""
    reason: str = ""
    """Why it is waited for, or what failed last."""
    wait_left_s: float | None = None
    redos: int = 0
    failures: int = 0
    abandoned: int = 0
    """Cells of which no more is run."""


class Observer(Protocol):
    """Called from several threads at once."""

    def note(self, text: str) -> None:
        """Say one sentence that stays on the screen."""
        ...

    def warn(self, text: str) -> None:
        """Say one sentence about something that went wrong; it is said in quiet mode too."""
        ...

    def begin(self, name: str, total: int) -> None:
        """Begin a bar called `name` (such as building a variant) of `total` steps."""
        ...

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Advance the bar by `steps`; `doing` says what comes next."""
        ...

    def wait(self, name: str, doing: str) -> None:
        """Say what the bar works on or waits for; it does not move."""
        ...

    def end(self, name: str) -> None:
        """Take the bar away."""
        ...

    def show(self, status: DeviceStatus) -> None:
        """Show where a device is; the status before it is out of date."""
        ...


class SilentObserver:
    """Watches nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def begin(self, name: str, total: int) -> None:
        """Draw nothing."""

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        """Draw nothing."""

    def wait(self, name: str, doing: str) -> None:
        """Draw nothing."""

    def end(self, name: str) -> None:
        """Draw nothing."""

    def show(self, status: DeviceStatus) -> None:
        """Draw nothing."""


class ProgressKind(StrEnum):
    """What a `ProgressEvent` reports."""

    NOTE = "note"
    WARNING = "warning"
    BEGIN = "begin"
    ADVANCE = "advance"
    WAIT = "wait"
    END = "end"
    DEVICE = "device"


@dataclass(frozen=True)
class ProgressEvent:
    """One call of an `Observer`, as a value."""

    kind: ProgressKind
    text: str = ""
    """The note or warning, or what the bar works on."""
    bar: str = ""
    """The name of the bar that begins, advances, waits or ends."""
    steps: int = 0
    """All steps of a bar that begins, or the steps by which it advances."""
    device: DeviceStatus | None = None


Progress = Callable[[ProgressEvent], None] | Observer | None
"""How a caller of the API follows long work. A callback is called from several threads at once."""


class _CallbackObserver:
    """Passes every call to a function as one event."""

    def __init__(self, callback: Callable[[ProgressEvent], None]) -> None:
        self._callback = callback

    def note(self, text: str) -> None:
        self._callback(ProgressEvent(ProgressKind.NOTE, text))

    def warn(self, text: str) -> None:
        self._callback(ProgressEvent(ProgressKind.WARNING, text))

    def begin(self, name: str, total: int) -> None:
        self._callback(ProgressEvent(ProgressKind.BEGIN, bar=name, steps=total))

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        self._callback(ProgressEvent(ProgressKind.ADVANCE, doing, name, steps))

    def wait(self, name: str, doing: str) -> None:
        self._callback(ProgressEvent(ProgressKind.WAIT, doing, name))

    def end(self, name: str) -> None:
        self._callback(ProgressEvent(ProgressKind.END, bar=name))

    def show(self, status: DeviceStatus) -> None:
        self._callback(ProgressEvent(ProgressKind.DEVICE, bar=status.serial, device=status))


def to_observer(progress: Progress) -> Observer:
    """Return an observer: the given one, one that calls the given function, or a silent one."""
    if progress is None:
        return SilentObserver()
    return _CallbackObserver(progress) if callable(progress) else progress


_LOG = logging.getLogger(__name__)
_LOGGED = frozenset(
    {
        DeviceEvent.BEGAN,
        DeviceEvent.COOLING,
        DeviceEvent.FAILED,
        DeviceEvent.AGAIN,
        DeviceEvent.AWAY,
        DeviceEvent.ENDED,
    }
)


class LoggingObserver:
    """Logs notes, warnings and what happens to devices, then passes every call on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.begin = observer.begin
        self.advance = observer.advance
        self.wait = observer.wait
        self.end = observer.end
        self._events: dict[str, DeviceEvent] = {}

    def note(self, text: str) -> None:
        """Log one sentence at INFO."""
        _LOG.info("%s", text)
        self._observer.note(text)

    def warn(self, text: str) -> None:
        """Log one sentence at WARNING."""
        _LOG.warning("%s", text)
        self._observer.warn(text)

    def show(self, status: DeviceStatus) -> None:
        """Log an event that changed what happens on a device."""
        if status.news in _LOGGED and self._events.get(status.serial) is not status.news:
            _LOG.info("%s: %s %s %s", status.serial, status.news, status.cell, status.reason)
        self._events[status.serial] = status.news
        self._observer.show(status)
