"""Parse the output of Android's commands: getprop, dumpsys and scripts of several commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_START = re.compile(r"^\s*\[(?P<key>[^\]]+)\]:\s*\[(?P<value>.*)$")
_ASSIGNMENT = re.compile(r"^\s*(?P<key>[A-Za-z0-9_.-]+)=(?P<value>.*)$")


def parse_properties(text: str) -> dict[str, str]:
    """Parse `getprop` output or a build.prop file. Values may span lines; the last value of a key wins."""
    properties: dict[str, str] = {}
    open_key: str | None = None
    value: list[str] = []
    for line in text.splitlines():
        start = _START.match(line)
        if start:
            open_key, value = start["key"], [start["value"]]
        elif open_key is not None:
            value.append(line)
        elif assignment := _ASSIGNMENT.match(line):
            properties[assignment["key"]] = assignment["value"].strip()
        if open_key is not None and value[-1].rstrip().endswith("]"):
            properties[open_key] = "\n".join(value).rstrip().removesuffix("]")
            open_key = None
    return properties


_NO_VALUE_C = -90.0
"""Sensors without a value report -99.9."""
_STATUS = re.compile(r"Thermal Status:\s*(\d+)")
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+), mName=([^,}]*), mStatus=(-?\d+)\}")
_CURRENT = "Current temperatures from HAL"
_BATTERY_FIELD = re.compile(r"^\s{0,4}([A-Za-z][A-Za-z ]*):\s*(\S+)\s*$")


@dataclass(frozen=True)
class Battery:
    """The battery service's state; None for values that it does not report."""

    level_percent: int | None = None
    temperature_c: float | None = None
    voltage_mv: int | None = None
    status: int | None = None
    """Android's BatteryManager: 1 unknown, 2 charging, 3 discharging, 4 not charging, 5 full."""
    plugged: bool | None = None


@dataclass(frozen=True)
class Thermal:
    """The thermal service's state. `temperatures_c` is by sensor name, without sensors that have no value."""

    status: int | None
    """0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown."""
    temperatures_c: dict[str, float]


def parse_battery(text: str) -> Battery:
    """Parse `dumpsys battery`. The first occurrence counts: makers append an event log that repeats the keys."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if match := _BATTERY_FIELD.match(line):
            fields.setdefault(match[1].strip().lower(), match[2])
    tenths, powered = (
        _integer(fields.get("temperature")),
        [fields.get(f"{kind} powered") for kind in ("ac", "usb", "wireless")],
    )
    known = [value == "true" for value in powered if value is not None]
    return Battery(
        level_percent=_integer(fields.get("level")),
        temperature_c=tenths / 10 if tenths is not None else None,
        voltage_mv=_integer(fields.get("voltage")),
        status=_integer(fields.get("status")),
        plugged=any(known) if known else None,
    )


def parse_thermal(text: str) -> Thermal:
    """Parse `dumpsys thermalservice`: the status, and the current temperatures rather than the cached ones."""
    status = _STATUS.search(text)
    _, found, current = text.partition(_CURRENT)
    temperatures: dict[str, float] = {}
    for value, _kind, name, _status in _TEMPERATURE.findall(current if found else text):
        number = _float(value)
        if number is not None and number > _NO_VALUE_C:
            temperatures[name] = number
    return Thermal(int(status[1]) if status else None, temperatures)


def parse_screen_on(text: str) -> bool | None:
    """Read from `dumpsys power` whether the screen is on: `mWakefulness=Awake`, or `Display Power: state=ON`."""
    match = re.search(r"mWakefulness=(\w+)", text)
    if match:
        return match[1] == "Awake"
    match = re.search(r"Display Power: state=(\w+)", text)
    return match[1] == "ON" if match else None


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,12}", text) else None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_MARK = "@@harness:"
_TITLE = re.compile(rf"^{_MARK}(?P<title>[^\n]*)\n", re.MULTILINE)


def section_script(commands: Mapping[str, str]) -> str:
    """Return a script that runs constant commands in turn; a failing one does not stop the next."""
    parts = [f"echo '{_MARK}{title}'; {command} 2>/dev/null" for title, command in commands.items()]
    return "; echo; ".join(parts)


def split_sections(text: str) -> dict[str, str]:
    """Return the output of each command by its title."""
    pieces = _TITLE.split(text)[1:]
    return {title: body.strip("\n") for title, body in zip(pieces[::2], pieces[1::2], strict=True)}
