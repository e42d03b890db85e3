"""A time at which a sweep stops by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


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
        """Whether it was stopped by hand."""
        return super().is_set()

    @property
    def left_s(self) -> float:
        """Seconds until it is time; never below zero, infinite without a time."""
        return float("inf") if self.at_s is None else max(0.0, self.at_s - self._clock())

    def is_set(self) -> bool:
        """Tell whether nothing more may be started."""
        return self.interrupted or not self.left_s

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for `timeout` seconds."""
        longest = min(self.left_s, float("inf") if timeout is None else timeout)
        super().wait(None if longest == float("inf") else longest)
        return self.is_set()
