"""What can be turned on a phone before measuring, one class a knob."""

from __future__ import annotations

import re
from typing import ClassVar

from harness.devices.android_output import parse_screen_on
from harness.devices.device import Device
from harness.devices.preparation.clocks import CpuClocks, CpuGovernor
from harness.devices.preparation.knob import NO_SUCH_PROGRAM, TIMEOUT_S, Knob, KnobRefusedError, State, require_ok
from harness.spec.profile import PrepareSpec

_SLEEP, _WAKE_UP = "223", "224"
_READ_SCRIPT = "dumpsys power | grep -E 'mWakefulness=|Display Power: state='"
_NAMES = {True: "on", False: "off"}


class Screen(Knob):
    """Switched by the keys WAKEUP and SLEEP, which unlike POWER do not toggle. A lock screen stays."""

    name: ClassVar[str] = "screen"

    def __init__(self, *, on: bool) -> None:
        self._on = on

    @property
    def label(self) -> str:
        """Tell results with the screen on from those with it off."""
        return f"{self.name} {_NAMES[self._on]}"

    def unavailable_because(self, device: Device) -> str:
        """Tell a phone that does not say whether its screen is on: it could not be restored as it was."""
        return "" if self._is_on(device) is not None else "The phone does not report if its screen is on."

    def read(self, device: Device) -> State:
        """Return on or off."""
        on = self._is_on(device)
        if on is None:
            raise KnobRefusedError("The phone does not report if its screen is on.")
        return {"screen": _NAMES[on]}

    def wanted(self, device: Device) -> State:
        """Return what was asked for."""
        return {"screen": _NAMES[self._on]}

    def write(self, device: Device, state: State) -> None:
        """Press the key."""
        key = _SLEEP if state.get("screen") == "off" else _WAKE_UP
        require_ok(
            device.run(["input", "keyevent", key], timeout_s=TIMEOUT_S), "The phone refused to switch its screen"
        )

    def _is_on(self, device: Device) -> bool | None:
        return parse_screen_on(device.run_script(_READ_SCRIPT, timeout_s=TIMEOUT_S).stdout)


_KEY = ("global", "stay_on_while_plugged_in")
_EVERY_CHARGER = "7"
"""Bits of mains, USB and wireless; a cable to the computer is the second."""
_UNSET = "null"


class StayAwake(Knob):
    """`stay_on_while_plugged_in`, restored exactly: a number, or not set at all."""

    name: ClassVar[str] = "stay-awake"

    def unavailable_because(self, device: Device) -> str:
        """Tell phones older than Android 4.2, which have no `settings`."""
        result = device.run(["settings", "get", *_KEY], timeout_s=TIMEOUT_S)
        return "The phone has no command `settings`." if result.exit_code == NO_SUCH_PROGRAM else ""

    def read(self, device: Device) -> State:
        """Return the setting; `null` where it is not set."""
        result = device.run(["settings", "get", *_KEY], timeout_s=TIMEOUT_S)
        value = result.stdout.strip()
        if not result.ok or not re.fullmatch(rf"\d{{1,4}}|{_UNSET}", value):
            raise KnobRefusedError(f"The phone does not tell its setting {_KEY[1]}: {value or result.stderr.strip()}")
        return {_KEY[1]: value}

    def wanted(self, device: Device) -> State:
        """Return awake on every charger."""
        return {_KEY[1]: _EVERY_CHARGER}

    def write(self, device: Device, state: State) -> None:
        """Put the setting, or delete it."""
        value = state.get(_KEY[1], _UNSET)
        change = ["delete", *_KEY] if value == _UNSET else ["put", *_KEY, value]
        require_ok(device.run(["settings", *change], timeout_s=TIMEOUT_S), "The phone refused to stay awake")


_FIRST_API_LEVEL = 30


class FixedPerformance(Knob):
    """`cmd power set-fixed-performance-mode-enabled`. Android has no command that reads it back.

    A phone that has the command but no power service of its maker for it fails with "Failed to set FIXED_PERFORMANCE
    mode", so the exit code is the evidence.
    """

    name: ClassVar[str] = "fixed-performance"
    readable: ClassVar[bool] = False

    def unavailable_because(self, device: Device) -> str:
        """Tell a phone that is too old; whether the maker supports it shows when it is set."""
        level = device.facts().api_level
        if level is not None and level >= _FIRST_API_LEVEL:
            return ""
        return f"Android offers it from API level {_FIRST_API_LEVEL}; this phone has {level or 'an unknown one'}."

    def read(self, device: Device) -> State:
        """Return off, which is what a phone starts with."""
        return {"enabled": "false"}

    def wanted(self, device: Device) -> State:
        """Return on."""
        return {"enabled": "true"}

    def write(self, device: Device, state: State) -> None:
        """Switch the mode."""
        enabled = "true" if state.get("enabled") == "true" else "false"
        arguments = ["cmd", "power", "set-fixed-performance-mode-enabled", enabled]
        require_ok(device.run(arguments, timeout_s=TIMEOUT_S), "The phone refused fixed-performance mode")


EVERY_KNOB: tuple[Knob, ...] = (StayAwake(), Screen(on=True), FixedPerformance(), CpuGovernor(), CpuClocks())
"""One of each, to restore by name what an earlier harness left."""


def knobs_of(wishes: PrepareSpec) -> list[Knob]:
    """Return the knobs that a profile asks for, in the order in which they are turned."""
    knobs: list[Knob] = []
    if wishes.stay_awake:
        knobs.append(StayAwake())
    if wishes.screen != "as-is":
        knobs.append(Screen(on=wishes.screen == "on"))
    if wishes.fixed_performance:
        knobs.append(FixedPerformance())
    if wishes.lock_clocks:
        knobs += [CpuGovernor(), CpuClocks(wishes.clock_share)]
    return knobs
