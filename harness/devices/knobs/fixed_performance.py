"""Android's fixed-performance mode: clocks that the maker chose to be held for long, without root."""

from __future__ import annotations

from typing import ClassVar

from harness.devices.device import Device
from harness.devices.preparation.knob import TIMEOUT_S, Knob, State, require_ok

_FIRST_API_LEVEL = 30


class FixedPerformance(Knob):
    """`cmd power set-fixed-performance-mode-enabled`. Android has no command that tells whether it is on.

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
