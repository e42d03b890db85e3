"""A fixed piece of work that tells throttling on a phone which tells nothing itself (promise H3).

androidx's ThrottleDetector does the same on Androids without a thermal service, with the same limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.devices.device import Device
from harness.devices.state.telemetry import Telemetry
from harness.errors import DeviceError

SLOWER_FROM = 1.10
_BASELINE_TRIES = 3
_TRIES = 2
"""The faster of so many counts: something else may run in between."""
_TIMEOUT_S = 60.0
_WORK = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"
"""Counting in the shell itself: no files, no other process, some tenths of a second on a phone."""


class ReferenceWorkload:
    """The work on one device's measured cores, against how long it took at first."""

    def __init__(self, device: Device, core_mask: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._pin = ["taskset", core_mask] if core_mask else []
        self._clock = clock
        self._baseline_s: float | None = None
        self.ratio: float | None = None
        """How many times as long as at first it took the last time; None before it was done."""

    def slowness(self) -> str:
        """Do the work and tell by how much it is slower than at first; empty where it is not. Never raises.

        The first call sets what is compared with, and so belongs to a cool phone.
        """
        try:
            if self._baseline_s is None:
                self._baseline_s, self.ratio = min(self._seconds() for _ in range(_BASELINE_TRIES)), 1.0
                return ""
            fastest_s = min(self._seconds() for _ in range(_TRIES))
        except DeviceError:  # found out by the next invocation
            return ""
        self.ratio = fastest_s / self._baseline_s
        self._baseline_s = min(self._baseline_s, fastest_s)
        is_slow = self.ratio >= SLOWER_FROM
        return f"the reference workload took {self.ratio:.2f} times as long as at first" if is_slow else ""

    def _seconds(self) -> float:
        started = self._clock()
        self._device.run([*self._pin, "sh", "-c", _WORK], timeout_s=_TIMEOUT_S)
        return self._clock() - started


def tells_nothing(look: Telemetry) -> bool:
    """Whether neither a thermal service nor the cores' limits would show that the phone holds back."""
    return look.thermal_status is None and not look.core_ceilings_khz
