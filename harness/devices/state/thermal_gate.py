"""Wait until a phone is cool (promise H2), and detect throttling afterwards (promise H3)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.devices.device import Device
from harness.devices.state.reference_workload import ReferenceWorkload, reports_nothing
from harness.devices.state.sampling import ClockSamples
from harness.devices.state.telemetry import Telemetry, read_telemetry
from harness.errors import DeviceError, Failure, FailureClass
from harness.spec.profile import DeviceProfile

FREQUENCY_DROP = 0.05
"""A core whose limit fell by this share is throttled; governors step by less or by far more."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
"""The chip itself cools within a second after a short run, the skin within minutes."""
_ON_CHIP = re.compile(
    r"cpu|gpu|npu|tpu|nsp|apc|ddr|cluster|core|tsens|soc|big|little|mid$|isp|aoc|modem"
    r"|pm\w*[-_]tz|pmic|wlan|wifi|pa[-_]?therm|power_amplifier|charger",
    re.IGNORECASE,
)
"""Sensors on chips: cores and accelerators, power supply and radio. All others measure the phone's surface."""
_NO_TEMPERATURE = re.compile(
    r"(?:zone:)?(?:soc|.*(?:bcl|vbat|ibat|[-_]lvl|level|current|voltage|percentage).*)", re.IGNORECASE
)
"""Battery levels, currents and voltages that kernels and thermal services list among the temperatures."""


@dataclass(frozen=True)
class ThermalLimits:
    """The temperatures at which a phone counts as cool, and the longest wait."""

    limit_c: float
    chip_limit_c: float
    wait_s: float

    @classmethod
    def of(cls, profile: DeviceProfile) -> ThermalLimits:
        """Return the limits of a profile."""
        return cls(profile.thermal_limit_c, profile.chip_limit_c, profile.thermal_wait_s)


@dataclass(frozen=True)
class GateRecord:
    """The result of one wait."""

    waited_s: float
    looks: int
    """The number of fresh looks at the phone."""
    held_by: str
    """The first reason to wait; empty if the phone was cool at once."""
    open: bool
    """False if the phone did not cool in time."""
    cool: bool
    """False with an open gate if the profile says not to wait, so that the phone is measured hot."""
    workload_ratio: float | None = None
    """The reference workload's time over its first time; None if the phone reports throttling itself."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "waited_s": round(self.waited_s, 1),
            "looks": self.looks,
            "held_by": self.held_by,
            "open": self.open,
            "cool": self.cool,
            "workload_ratio": self.workload_ratio,
        }


@dataclass(frozen=True)
class Cooling:
    """One look at a device that is cooling."""

    reason: str
    left_s: float
    """The longest remaining wait."""
    look: Telemetry


class ThermalGate:
    """The gate before every invocation on one device.

    The first look that is cool sets what each core may run at; later the gate stays shut until that is so again.
    """

    def __init__(
        self,
        device: Device,
        limits: ThermalLimits,
        cores: Collection[int],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        tell: Callable[[Cooling], object] = lambda _: None,
        workload: ReferenceWorkload | None = None,
    ) -> None:
        """`sleep` may return true to end the wait at once, as `threading.Event.wait` does when it is set.

        `workload` replaces the sensors of a phone that reports nothing.
        """
        self._device = device
        self._limits = limits
        self._cores = cores
        self._clock = clock
        self._sleep = sleep
        self._tell = tell
        self._workload = workload
        self._reference: Telemetry | None = None

    def wait(self, last_look: Telemetry | None) -> tuple[Telemetry | None, GateRecord]:
        """Wait until the device is cool and return the look that shows it; a recent look saves one.

        Lets a device through that does not answer, because the invocation will notice. Raises nothing.
        """
        started, looks, first_reason, pause_s = self._clock(), 0, "", _FIRST_PAUSE_S
        look = last_look
        while True:
            if look is None:
                look, looks = self._look(), looks + 1
            reason = self.held_by(look) if look else ""
            if look and look is not last_look:
                reason = reason or self.slowness(look)
            first_reason = first_reason or reason
            waited_s = self._clock() - started
            left_s = self._limits.wait_s - waited_s
            if not reason:
                self._reference = self._reference or look
                return look, GateRecord(waited_s, looks, first_reason, open=True, cool=True)
            if left_s > 0 and look:
                self._tell(Cooling(reason, left_s, look))
            if left_s <= 0 or self._sleep(min(pause_s, left_s)):
                return look, GateRecord(waited_s, looks, reason, open=self._limits.wait_s == 0, cool=False)
            look, pause_s = None, min(2 * pause_s, _LONGEST_PAUSE_S)

    def held_by(self, look: Telemetry) -> str:
        """Return why the device must not be measured now; "" if it is cool."""
        if look.thermal_status:
            return f"thermal status {look.thermal_status}"
        hot = [
            (degrees_c - limit_c, name, limit_c)
            for name, degrees_c in body_temperatures(look).items()
            if degrees_c > (limit_c := self._limits.chip_limit_c if _ON_CHIP.search(name) else self._limits.limit_c)
        ]
        if hot:
            excess_c, name, limit_c = max(hot)
            return f"{name.removeprefix('zone:')} at {limit_c + excess_c:.1f} °C, limit {limit_c:g} °C"
        return held_back(self._reference, look, self._cores)

    def slowness(self, look: Telemetry) -> str:
        """Return how much slower than at first a phone is that reports nothing; "" for any other phone."""
        return self._workload.slowness() if self._workload and reports_nothing(look) else ""

    @property
    def workload_ratio(self) -> float | None:
        """The reference workload's last time over its first; None if it was not needed."""
        return self._workload.ratio if self._workload else None

    def _look(self) -> Telemetry | None:
        try:
            return read_telemetry(self._device)
        except DeviceError:
            return None


def body_temperatures(look: Telemetry) -> dict[str, float]:
    """Return the temperatures by sensor, with the battery's and without kernel zones that hold other values."""
    temperatures = {name: value for name, value in look.temperatures_c.items() if not _NO_TEMPERATURE.fullmatch(name)}
    if look.battery_temperature_c is not None:
        temperatures["battery"] = look.battery_temperature_c
    return temperatures


def hottest(look: Telemetry) -> tuple[str, float] | None:
    """Return the hottest sensor and its temperature; None if the device reports no temperatures."""
    return max(body_temperatures(look).items(), key=lambda item: item[1], default=None)


def throttling(
    before: Telemetry | None, during: ClockSamples | None, after: Telemetry | None, cores: Collection[int]
) -> Failure | None:
    """Return the failure if the looks around an invocation show throttling; else None."""
    if after is None:
        return None
    sign = f"thermal status {after.thermal_status}" if after.thermal_status else held_back(before, after, cores)
    if not sign and before and during:
        sign = _drop(before.core_ceilings_khz, during.lowest_ceilings_khz, cores)
    return throttled(after, sign) if sign else None


def throttled(after: Telemetry, sign: str) -> Failure:
    """Return the failure for a sign of throttling."""
    hot = hottest(after)
    evidence = f"hottest: {hot[0]} at {hot[1]:.1f} °C" if hot else "the phone tells no temperatures"
    return Failure(FailureClass.THROTTLED, f"The phone held back while the tool ran: {sign}.", evidence)


def held_back(earlier: Telemetry | None, now: Telemetry, cores: Collection[int]) -> str:
    """Name a core whose limit fell, or whose locked clock fell; "" if there is none."""
    if earlier is None:
        return ""
    locked = {
        core: khz
        for core, khz in earlier.core_frequencies_khz.items()
        if earlier.core_floors_khz.get(core) == earlier.core_ceilings_khz.get(core)
    }
    return _drop(earlier.core_ceilings_khz, now.core_ceilings_khz, cores) or _drop(
        locked, now.core_frequencies_khz, cores
    )


def _drop(earlier: Mapping[int, int], now: Mapping[int, int], cores: Collection[int]) -> str:
    """Name the core that fell most, such as `core 4 at 1.20 of 2.37 GHz`."""
    shares = {core: now[core] / khz for core, khz in earlier.items() if core in cores and core in now and khz > 0}
    core = min(shares, key=lambda index: shares[index], default=None)
    if core is None or shares[core] >= 1 - FREQUENCY_DROP:
        return ""
    return f"core {core} at {now[core] / 1e6:.2f} of {earlier[core] / 1e6:.2f} GHz"
