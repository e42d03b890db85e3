"""What every device of one sweep shares."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.accuracy.on_device import CheckData
from harness.benchmark.registry import ToolRegistry
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.store import Store
from harness.sweep.fault_log import FaultLog
from harness.sweep.plan import Groups, at_once
from harness.sweep.sharing import EachDevice, Scheduling
from harness.sweep.variants import VariantQueue


@dataclass(frozen=True)
class SweepContext:
    """One sweep: what is measured, into which store, and who watches."""

    sweep_id: str
    spec: SweepSpec
    variants: VariantQueue
    evidence: CheckData | None
    """Real inputs and reference outputs; None if the spec asks for no accuracy."""
    store: Store
    registry: ToolRegistry
    observer: Observer
    stop: threading.Event
    """Set when the user interrupts: what is under way is finished, nothing more is started."""
    scheduling: Scheduling = field(default_factory=EachDevice)
    groups: Groups = at_once
    host: str = field(default_factory=platform.node)
    """The computer that talks to its phones."""
    faults: FaultLog = field(init=False)
    """What went wrong with its phones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", FaultLog(self.spec.most_faults))


class Deadline(threading.Event):
    """The event that stops a sweep: set by Ctrl-C, or by the clock when it is time.

    What is under way is finished; nothing more is started. `at_s` and `clock` are seconds since 1970, so that a host
    that slept wakes up after its deadline.
    """

    def __init__(self, at_s: float | None = None, *, clock: Callable[[], float] = time.time) -> None:
        """Without `at_s` only Ctrl-C stops it."""
        super().__init__()
        self.at_s = at_s
        self._clock = clock

    @property
    def interrupted(self) -> bool:
        """Return True if it was stopped by hand."""
        return super().is_set()

    @property
    def left_s(self) -> float:
        """Seconds until it is time; never below zero, infinite without a time."""
        return float("inf") if self.at_s is None else max(0.0, self.at_s - self._clock())

    def is_set(self) -> bool:
        """Return True if nothing more may be started."""
        return self.interrupted or not self.left_s

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds."""
        longest = min(self.left_s, float("inf") if timeout is None else timeout)
        super().wait(None if longest == float("inf") else longest)
        return self.is_set()
