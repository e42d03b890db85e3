"""Detect throttling with a fixed workload on a phone that reports nothing itself (promise H3).

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
"""The fastest of these counts, because something else may run in between."""
_TIMEOUT_S = 60.0
_WORK = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"
"""Counting in the shell itself: no files, no other process, some tenths of a second on a phone."""


class ReferenceWorkload:
    """The workload on one device's measured cores, compared with its first time."""

    def __init__(self, device: Device, core_mask: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._pin = ["taskset", core_mask] if core_mask else []
        self._clock = clock
        self._baseline_s: float | None = None
        self.ratio: float | None = None
        """The last time divided by the first; None before the first run."""

    def slowness(self) -> str:
        """Run the workload and describe how much slower than at first it was; "" if it was not. Never raises.

        The first call sets the baseline, so the phone must be cool then.
        """
        try:
            if self._baseline_s is None:
                self._baseline_s, self.ratio = min(self._seconds() for _ in range(_BASELINE_TRIES)), 1.0
                return ""
            fastest_s = min(self._seconds() for _ in range(_TRIES))
        except DeviceError:  # the next invocation notices it
            return ""
        self.ratio = fastest_s / self._baseline_s
        self._baseline_s = min(self._baseline_s, fastest_s)
        is_slow = self.ratio >= SLOWER_FROM
        return f"the reference workload took {self.ratio:.2f} times as long as at first" if is_slow else ""

    def _seconds(self) -> float:
        started = self._clock()
        self._device.run([*self._pin, "sh", "-c", _WORK], timeout_s=_TIMEOUT_S)
        return self._clock() - started


def reports_nothing(look: Telemetry) -> bool:
    """Return True if neither a thermal service nor the cores' limits would show throttling."""
    return look.thermal_status is None and not look.core_ceilings_khz
