"""Restart a phone over ADB and wait until Android has started on it again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import adbutils

from harness.devices.adb.discovery import identities, name_of
from harness.devices.adb.recovery import answers
from harness.devices.adb.server import adb_client
from harness.devices.adb.transport import LOSSES, TimedDevice, describe_loss
from harness.devices.device import Device
from harness.devices.device_ref import DeviceName
from harness.errors import DeviceError, Failure, FailureClass

DOWN_TIMEOUT_S = 60.0
"""A phone that was told to restart stops answering within this time."""
BOOT_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 1.0
_SLEEP = f"sleep {2 * DOWN_TIMEOUT_S:.0f}"


def restart(device: Device, *, stop: threading.Event, boot_timeout_s: float = BOOT_TIMEOUT_S) -> None:
    """Restart a phone. `stop` ends the wait for it.

    That it went down is seen by a command that waits on the phone and is cut off, since neither the order's answer nor
    a phone that answers proves it. Raises `DeviceError` for a phone that cannot be told, does not go down, or does not
    come back.
    """
    serial, name = device.serial, DeviceName.parse(name_of(device))
    adb = TimedDevice(adb_client(name.server), serial=name.serial)
    adb.limit_s = _ANSWER_TIMEOUT_S
    try:
        with _service(adb, f"shell:{_SLEEP}") as waiting:
            _order(adb)
            if not _is_cut_off(waiting):
                raise DeviceError(
                    Failure(FailureClass.DEVICE_OFFLINE, f"{serial} was told to restart, and did not go down.")
                )
    except LOSSES as error:
        raise describe_loss(error, serial) from error
    _await_start(device, stop, boot_timeout_s)


@contextmanager
def _service(adb: TimedDevice, name: str) -> Iterator[adbutils.AdbConnection]:
    with closing(adb.open_transport()) as connection:
        connection.send_command(name)
        connection.check_okay()
        yield connection


def _order(adb: TimedDevice) -> None:
    """Do as `adb reboot` does, or as `adb shell reboot` where adbd has no such service: one built for Linux."""
    try:
        with _service(adb, "reboot:"):
            return
    except LOSSES:
        with suppress(*LOSSES), _service(adb, "shell:reboot"):  # whether it went down is seen by whoever waits
            return


def _is_cut_off(waiting: adbutils.AdbConnection) -> bool:
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while (left_s := deadline - time.monotonic()) > 0:
        waiting.conn.settimeout(left_s)
        try:
            if not waiting.conn.recv(4096):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def _await_start(device: Device, stop: threading.Event, timeout_s: float) -> None:
    name = name_of(device)
    deadline = time.monotonic() + timeout_s
    while not (answers(device) and name in identities([name])):
        if time.monotonic() >= deadline or stop.wait(_LOOK_EVERY_S):
            message = f"{device.serial} was restarted, and had not started again after {timeout_s:.0f} s."
            raise DeviceError(Failure(FailureClass.DEVICE_LOST, message))
