"""Read a device's state around an invocation (promise H16), in one round trip."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.devices.android_output import parse_battery, parse_screen_on, parse_thermal, section_script, split_sections
from harness.devices.device import Device

_CLOCK = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
TELEMETRY_SCRIPT = section_script(
    {
        "thermal": "dumpsys thermalservice",
        "battery": "dumpsys battery",
        "power": "dumpsys power | grep -E 'mWakefulness=|Display Power: state='",
        "low_power": "settings get global low_power",
        "zones": "grep . /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp",
        "frequencies": " ".join(["grep .", *(f"{_CLOCK}/scaling_{name}_freq" for name in ("cur", "min", "max"))]),
        "load": "cat /proc/loadavg",
    }
)
TELEMETRY_TIMEOUT_S = 20.0

_ZONE = re.compile(r"thermal_zone(\d+)/(type|temp):(.*)")
_FREQUENCY = re.compile(r"/cpu(\d+)/cpufreq/scaling_(cur|min|max)_freq:(\d+)")
_MILLI_FROM = 1000
"""Kernels give thousandths of a degree; some old ones whole degrees."""
_SENSIBLE_C = (-40.0, 200.0)


@dataclass(frozen=True)
class Telemetry:
    """One look at a device; None or empty for values that the device does not report."""

    thermal_status: int | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    """By sensor of the thermal service, or by kernel zone as `zone:TYPE`."""
    battery_percent: int | None = None
    battery_temperature_c: float | None = None
    plugged: bool | None = None
    screen_on: bool | None = None
    power_save: bool | None = None
    core_frequencies_khz: dict[int, int] = field(default_factory=dict)
    core_floors_khz: dict[int, int] = field(default_factory=dict)
    """The lowest frequency that each core may run at now; also the highest if its clock is locked."""
    core_ceilings_khz: dict[int, int] = field(default_factory=dict)
    """The highest frequency that each core may run at now: a kernel that throttles lowers it."""
    load_1min: float | None = None

    @property
    def hottest_c(self) -> float | None:
        """The highest temperature of all sensors and zones."""
        return max(self.temperatures_c.values(), default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def read_telemetry(device: Device) -> Telemetry:
    """Read a device's state once. Raises `DeviceError`."""
    return parse_telemetry(device.run_script(TELEMETRY_SCRIPT, timeout_s=TELEMETRY_TIMEOUT_S).stdout)


def parse_telemetry(output: str) -> Telemetry:
    """Parse the output of `TELEMETRY_SCRIPT`."""
    sections = split_sections(output)
    thermal = parse_thermal(sections.get("thermal", ""))
    battery = parse_battery(sections.get("battery", ""))
    low_power = sections.get("low_power", "").strip()
    load = re.match(r"(\d+\.\d+) ", sections.get("load", ""))
    frequencies: dict[str, dict[int, int]] = {"cur": {}, "min": {}, "max": {}}
    for core, kind, khz in _FREQUENCY.findall(sections.get("frequencies", "")):
        frequencies[kind][int(core)] = int(khz)
    return Telemetry(
        thermal_status=thermal.status,
        temperatures_c={**parse_zones(sections.get("zones", "")), **thermal.temperatures_c},
        battery_percent=battery.level_percent,
        battery_temperature_c=battery.temperature_c,
        plugged=battery.plugged,
        screen_on=parse_screen_on(sections.get("power", "")),
        power_save={"1": True, "0": False, "null": False}.get(low_power),
        core_frequencies_khz=frequencies["cur"],
        core_floors_khz=frequencies["min"],
        core_ceilings_khz=frequencies["max"],
        load_1min=float(load[1]) if load else None,
    )


def parse_zones(text: str) -> dict[str, float]:
    """Return degrees Celsius by `zone:TYPE` from grep's lines over the zones' `type` and `temp` files."""
    kinds: dict[str, str] = {}
    values: dict[str, int] = {}
    for number, name, value in _ZONE.findall(text):
        if name == "type":
            kinds[number] = value.strip()
        elif re.fullmatch(r"-?\d{1,9}", value.strip()):
            values[number] = int(value)
    temperatures: dict[str, float] = {}
    for number, value in values.items():
        degrees_c = value / _MILLI_FROM if abs(value) >= _MILLI_FROM else float(value)
        if _SENSIBLE_C[0] < degrees_c < _SENSIBLE_C[1]:
            temperatures[f"zone:{kinds.get(number, number)}"] = degrees_c
    return temperatures
