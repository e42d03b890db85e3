"""Labels for every number of a device (promise H1), instead of silent exclusions."""

from __future__ import annotations

from harness.devices.device import DeviceFacts, DeviceKind
from harness.devices.state.telemetry import Telemetry

LOW_BATTERY_PERCENT = 25
HOT_C = 40.0
"""Skin or battery temperature from which phones commonly throttle."""


def preflight_labels(facts: DeviceFacts, telemetry: Telemetry) -> tuple[str, ...]:
    """Return the labels that hold before anything is measured."""
    label_if = {
        "emulator": facts.kind is DeviceKind.EMULATOR,
        "virtual phone": facts.kind is DeviceKind.VIRTUAL,
        "host": facts.kind is DeviceKind.HOST,
        f"{facts.build_type} build": facts.build_type in ("eng", "userdebug"),
        "low battery": telemetry.battery_percent is not None and telemetry.battery_percent < LOW_BATTERY_PERCENT,
        "power save": telemetry.power_save is True,
        "hot": bool(telemetry.thermal_status) or _is_hot(telemetry),
        "screen off": telemetry.screen_on is False,
        "screen on": telemetry.screen_on is True,
    }
    return tuple(label for label, holds in label_if.items() if holds)


def _is_hot(telemetry: Telemetry) -> bool:
    """Judge by skin and battery; a CPU's own zones are hot at any work."""
    outer = [
        value for name, value in telemetry.temperatures_c.items() if "skin" in name.lower() or "battery" in name.lower()
    ]
    outer += [telemetry.battery_temperature_c] if telemetry.battery_temperature_c is not None else []
    return max(outer, default=0.0) >= HOT_C
