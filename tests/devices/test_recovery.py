"""What is done for a phone that is listed and silent: its own connection is made anew, and nobody else's."""

import threading
import time

import pytest

from harness.devices.adb import recovery
from harness.devices.adb.discovery import ConnectionState, open_device, reconnect, state_of
from harness.devices.adb.recovery import await_device
from harness.errors import DeviceError, Failure, FailureClass

pytestmark = pytest.mark.virtual_phone
AWAY = Failure(FailureClass.DEVICE_LOST, "away")


def waited_for(device, seconds):
    await_device(device, deadline=time.monotonic() + seconds, stop=threading.Event(), failure=AWAY)


def test_reconnecting_drops_one_phone_only_and_it_comes_back(start_phone):
    phone, other = start_phone(), start_phone(like="galaxy-s9-us")
    device = open_device(phone.serial)
    reconnect(phone.serial, timeout_s=20)
    assert state_of(other.serial) is ConnectionState.DEVICE
    waited_for(device, 60)
    assert device.run(["echo", "again"], timeout_s=20).stdout == "again\n"


def test_a_silent_phone_is_reconnected_again_and_again_until_the_time_is_over(start_phone, monkeypatch):
    asked = []

    def note_and_reconnect(name, *, timeout_s):
        asked.append(str(name))
        reconnect(name, timeout_s=timeout_s)

    monkeypatch.setattr(recovery, "reconnect", note_and_reconnect)
    monkeypatch.setattr(recovery, "_FIRST_RECONNECT_S", 0.1)
    monkeypatch.setattr(recovery, "_ALIVE_TIMEOUT_S", 0.5)  # a hung phone uses all of it, at every look
    phone = start_phone()
    device = open_device(phone.serial)
    phone.faults.hang()
    with pytest.raises(DeviceError) as caught:
        waited_for(device, 6)
    assert caught.value.failure == AWAY
    assert set(asked) == {phone.serial}
    monkeypatch.undo()
    phone.faults.unhang()
    waited_for(device, 60)


def test_a_wait_ends_with_the_users_interruption(start_phone):
    phone = start_phone()
    device = open_device(phone.serial)
    phone.faults.switch_off()
    stop = threading.Event()
    stop.set()
    with pytest.raises(DeviceError):
        await_device(device, deadline=time.monotonic() + 600, stop=stop, failure=AWAY)
    phone.faults.switch_on()
