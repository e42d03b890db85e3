"""What one device tells while it is measured, on a virtual phone whose tool is a script."""

import os

import pytest
from scripted_sweep import ScriptedSweep

from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.progress import DeviceEvent
from harness.virtual_phone.phone import virtual_phone

pytestmark = pytest.mark.virtual_phone
LATENCY_US = 1000


@pytest.fixture(scope="module")
def phone(phone_ready, adb):
    with virtual_phone(f"statuses-{os.getpid()}") as phone:
        connect(phone.serial)
        yield phone
        disconnect(phone.serial)


@pytest.fixture
def device(phone):
    phone.controls.set_thermal_status(0)
    phone.controls.set_zone_temperature(3, 29.1)
    return open_device(phone.serial)


def test_every_process_is_told_with_its_number_latency_heat_and_what_is_left(device, tmp_path):
    told = ScriptedSweep(tmp_path).run(device).notebook.statuses
    assert [status.news for status in told[:2]] == [DeviceEvent.BEGAN, DeviceEvent.PLANNED]
    assert {status.serial for status in told} == {device.serial}
    assert {status.title for status in told} == {"Google Pixel 8"}
    running = [status for status in told if status.news is DeviceEvent.RUNNING]
    assert [(status.cell, status.doing, status.number, status.of) for status in running] == [
        ("int8 cpu", "latency", number, 5) for number in range(1, 6)
    ]
    steps = [status for status in told if status.news is DeviceEvent.STEP]
    assert [status.latency_us for status in steps] == [LATENCY_US] * 5
    assert [status.interval_us for status in steps] == [None] + [(LATENCY_US, LATENCY_US)] * 4
    assert all(status.heat.sensor and 0 < status.heat.degrees_c < 100 for status in steps)
    assert {status.heat.thermal_status for status in steps} == {0}
    assert all(status.left_s > 0 for status in steps[:-1])
    *_, last = told
    assert (last.news, last.steps_done, last.steps, last.left_s) == (DeviceEvent.ENDED, 6, 6, None)
    assert (last.redos, last.failures, last.abandoned) == (0, 0, 0)


def test_what_is_done_already_is_skipped_and_takes_no_time(device, tmp_path):
    sweep = ScriptedSweep(tmp_path).run(device)
    sweep.notebook.statuses.clear()
    sweep.run(device)
    assert [status.news for status in sweep.notebook.statuses] == [
        DeviceEvent.BEGAN,
        DeviceEvent.PLANNED,
        *[DeviceEvent.SKIPPED] * 6,
        DeviceEvent.ENDED,
    ]
    assert {status.left_s for status in sweep.notebook.statuses} == {None}


def test_a_cell_that_fails_is_counted_given_up_and_no_longer_waited_for(device, tmp_path):
    told = ScriptedSweep(tmp_path, "exit 1").run(device).notebook.statuses
    assert [status.news for status in told].count(DeviceEvent.FAILED) == 1
    assert (told[-1].redos, told[-1].failures) == (1, 1)
    assert told[-1].abandoned == 1
    assert told[-1].latency_us is None
    failed = next(status for status in told if status.news is DeviceEvent.FAILED)
    assert failed.reason == "tool_output_unreadable"
    after = [status for status in told if status.abandoned]
    assert {status.left_s for status in after} == {None}


def test_a_wait_for_a_cool_phone_is_told_with_its_heat_and_its_limit(phone, device, tmp_path):
    phone.controls.set_zone_temperature(3, 44.0)

    def cool_down(_seconds):
        phone.controls.set_zone_temperature(3, 30.0)

    told = ScriptedSweep(tmp_path).run(device, clock=lambda: 0.0, sleep=cool_down).notebook.statuses
    (cooling,) = (status for status in told if status.news is DeviceEvent.COOLING)
    assert cooling.reason == "battery at 44.0 °C, limit 40 °C"
    assert cooling.wait_left_s > 0
    assert (cooling.heat.sensor, cooling.heat.degrees_c) == ("zone:battery", 44.0)
    assert told[told.index(cooling) + 1].wait_left_s is None


def test_a_throttled_process_is_counted_as_redone(phone, device, tmp_path):
    hot = "sed -i 's/Thermal Status: .*/Thermal Status: 2/' /run/state/dumpsys-thermalservice"
    once = f"[ -e /data/was-hot ] || {{ : >/data/was-hot; {hot}; }}"
    sweep = ScriptedSweep(tmp_path, once)
    told = sweep.run(device, sleep=lambda _seconds: phone.controls.set_thermal_status(0)).notebook.statuses
    again = next(status for status in told if status.news is DeviceEvent.AGAIN)
    assert (again.redos, again.heat.thermal_status) == (1, 2)
    assert "thermal status 2" in again.reason
    assert (told[-1].redos, told[-1].failures, told[-1].steps_done) == (1, 0, 6)
