"""Promise H1: whatever is unusual about a phone stands beside its numbers, from before anything is pushed."""

import pytest
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep
from stored_tables import frame

from harness.devices.adb.discovery import open_device
from harness.devices.device import DeviceFacts, DeviceKind
from harness.devices.state.labels import preflight_labels
from harness.devices.state.telemetry import Telemetry

ORDINARY = Telemetry(
    thermal_status=0,
    temperatures_c={"SKIN": 31.0, "zone:cpu-0-0": 55.0},
    battery_percent=25,
    battery_temperature_c=29.1,
    power_save=False,
)


def labels(kind=DeviceKind.PHONE, build_type="user", **telemetry):
    look = Telemetry(**{**vars(ORDINARY), **telemetry})
    return preflight_labels(DeviceFacts("S", kind, build_type=build_type), look)


def test_promise_h1_an_ordinary_phone_has_no_label():
    assert labels() == ()
    assert preflight_labels(DeviceFacts("S", DeviceKind.PHONE), Telemetry()) == ()  # one that tells nothing


@pytest.mark.parametrize(
    ("label", "state"),
    [
        ("emulator", {"kind": DeviceKind.EMULATOR}),
        ("virtual phone", {"kind": DeviceKind.VIRTUAL}),
        ("host", {"kind": DeviceKind.HOST}),
        ("eng build", {"build_type": "eng"}),
        ("userdebug build", {"build_type": "userdebug"}),
        ("low battery", {"battery_percent": 24}),
        ("power save", {"power_save": True}),
        ("hot", {"thermal_status": 1}),
        ("hot", {"temperatures_c": {"SKIN": 40.0}}),
        ("hot", {"battery_temperature_c": 43.3}),
        ("screen off", {"screen_on": False}),
        ("screen on", {"screen_on": True}),
    ],
)
def test_promise_h1_each_state_has_its_label(label, state):
    assert labels(**state) == (label,)


@pytest.mark.virtual_phone
def test_promise_h1_labels_are_stored_before_anything_is_pushed(start_phone, tmp_path):
    phone = start_phone()
    phone.controls.set_battery(level=12)
    phone.controls.set_screen(on=False)
    device = open_device(phone.serial)
    sweep = ScriptedSweep(tmp_path)
    push, seen = device.push, []

    def look_and_push(local):
        seen.append(list(frame(sweep.store.devices(SWEEP))["labels"]))
        return push(local)

    device.push = look_and_push
    sweep.run(device)
    (stored,) = frame(sweep.store.devices(SWEEP))["labels"]
    assert {"virtual phone", "low battery"} <= set(stored)
    assert seen == [[stored]] * 2  # the tool and the variant
