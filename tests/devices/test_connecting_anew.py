"""A phone on the network that a new adb server does not know yet is connected when a sweep opens it."""

import subprocess

import pytest

from harness.benchmark.registry import ToolRegistry
from harness.errors import DeviceError
from harness.sweep.targets import opened

pytestmark = pytest.mark.virtual_phone


def test_a_phone_that_the_server_forgot_is_connected(start_phone, adb):
    phone = start_phone()
    subprocess.run([adb, "kill-server"], check=True, timeout=60)
    with opened(phone.serial, ToolRegistry()) as device:
        assert device.run(["echo", "here"], timeout_s=20).stdout.strip() == "here"


def test_one_that_is_switched_off_is_told_as_such(start_phone):
    phone = start_phone(connect=False)
    serial = phone.serial
    phone.stop()
    with pytest.raises(DeviceError, match="is not attached"), opened(serial, ToolRegistry()):
        pass
