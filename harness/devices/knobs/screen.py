"""The screen: many phones move work to small cores, or doze, soon after it goes off."""

from __future__ import annotations

from typing import ClassVar

from harness.devices.device import Device
from harness.devices.dumpsys import parse_screen_on
from harness.devices.preparation.knob import TIMEOUT_S, Knob, KnobRefusedError, State, require_ok

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
        """Tell a phone that does not say whether its screen is on: it could not be given back as it was."""
        return "" if self._is_on(device) is not None else "The phone does not tell whether its screen is on."

    def read(self, device: Device) -> State:
        """Return on or off."""
        on = self._is_on(device)
        if on is None:
            raise KnobRefusedError("The phone does not tell whether its screen is on.")
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
