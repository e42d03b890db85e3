"""Android's setting that keeps the screen on while the phone charges."""

from __future__ import annotations

import re
from typing import ClassVar

from harness.devices.device import Device
from harness.devices.preparation.knob import NO_SUCH_PROGRAM, TIMEOUT_S, Knob, KnobRefusedError, State, require_ok

_KEY = ("global", "stay_on_while_plugged_in")
_EVERY_CHARGER = "7"
"""Bits of mains, USB and wireless; a cable to the computer is the second."""
_UNSET = "null"


class StayAwake(Knob):
    """`stay_on_while_plugged_in`, given back exactly: a number, or not set at all."""

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
