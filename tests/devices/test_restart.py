"""A phone is restarted over ADB; that it went down is seen, not believed."""

import threading

import pytest

from harness.devices.adb import recovery as restarting
from harness.devices.adb.discovery import open_device
from harness.devices.adb.recovery import restart
from harness.errors import DeviceError, FailureClass

pytestmark = pytest.mark.virtual_phone


def test_a_restart_loses_properties_keeps_files_and_ends_when_the_phone_answers(start_phone, tmp_path):
    phone = start_phone()
    device = open_device(phone.serial)
    device.run(["setprop", "debug.x", "1"], timeout_s=20)
    device.run(["touch", "/data/kept"], timeout_s=20)
    restart(open_device(phone.serial), stop=threading.Event())
    assert device.run(["getprop", "debug.x"], timeout_s=20).stdout.strip() == ""
    assert device.run(["ls", "/data/kept"], timeout_s=20).ok


def test_a_phone_that_does_not_go_down_is_no_restart(start_phone, monkeypatch):
    phone = start_phone()
    phone.processes.inside("system/bin/reboot").write_text("#!/system/bin/sh\n")
    monkeypatch.setattr(restarting, "DOWN_TIMEOUT_S", 2.0)
    with pytest.raises(DeviceError, match="did not go down"):
        restart(open_device(phone.serial), stop=threading.Event())


def test_a_phone_that_does_not_start_again_is_lost(start_phone, monkeypatch):
    phone = start_phone()
    monkeypatch.setattr(restarting, "_order", lambda _adb: phone.faults.switch_off())
    with pytest.raises(DeviceError, match="had not started again") as caught:
        restart(open_device(phone.serial), stop=threading.Event(), boot_timeout_s=3)
    assert caught.value.failure.failure_class is FailureClass.DEVICE_LOST
    phone.faults.switch_on()


def test_a_hung_phone_cannot_be_told(start_phone, monkeypatch):
    phone = start_phone()
    device = open_device(phone.serial)
    phone.faults.hang()
    monkeypatch.setattr(restarting, "_ANSWER_TIMEOUT_S", 2.0)
    with pytest.raises(DeviceError) as caught:
        restart(device, stop=threading.Event())
    assert caught.value.failure.failure_class is FailureClass.DEVICE_OFFLINE
    phone.faults.unhang()
