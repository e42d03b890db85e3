"""Recover a device that disconnected: first the adb server, then the connection, within a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress

import adbutils

from harness.devices.adb.discovery import (
    ConnectionState,
    connect,
    failure_of_state,
    identities,
    last_listed,
    reachable,
    reconnect,
    ref_of,
    state_of,
)
from harness.devices.adb.server import adb_client, listens
from harness.devices.adb.server_repair import repair_server
from harness.devices.adb.transport import LOSSES, TimedDevice, describe_loss
from harness.devices.device import Device
from harness.devices.device_ref import DeviceRef
from harness.errors import DeviceError, Failure, FailureClass, MissingPrerequisiteError

_ALIVE_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_RETRY_S = 0.5
_FIRST_RECONNECT_S = 5.0
"""A phone gets this long to come back by itself. The time doubles because each attempt restarts the handshake."""
_SILENT = (ConnectionState.DEVICE, ConnectionState.OFFLINE)
"""States of an attached device that does not answer. An unauthorized one is left alone: it shows a dialog."""


def await_device(
    device: Device,
    *,
    deadline: float,
    stop: threading.Event,
    failure: Failure,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until a disconnected device answers again; repair the adb server and reconnect.

    `deadline` is of `time.monotonic`; `tell` receives each repair of the adb server. Raises `DeviceError` when the
    deadline has passed or `stop` is set: with `failure`, unless the device now asks for authorization.
    """
    pause_s = _FIRST_RECONNECT_S
    next_reconnect = time.monotonic() + pause_s
    last_repair = ""
    while not answers(device):
        if time.monotonic() >= deadline or stop.wait(_RETRY_S):
            raise DeviceError(_why_away(device, failure))
        repair = _repair_server(device)
        if repair and repair != last_repair:
            tell(repair)
            last_repair = repair
        if time.monotonic() >= next_reconnect:
            _reconnect(ref_of(device))
            pause_s *= 2
            next_reconnect = time.monotonic() + pause_s


def answers(device: Device) -> bool:
    """Return True if a device runs commands; reconnect to one on the network."""
    try:
        if ref_of(device).is_on_network:
            connect(ref_of(device), timeout_s=_CONNECT_TIMEOUT_S)
        return device.run_script("true", timeout_s=_ALIVE_TIMEOUT_S).ok
    except (DeviceError, MissingPrerequisiteError):
        return False


def are_back(names: Collection[str]) -> list[str]:
    """Return the devices that answer again; reconnect to those on the network. Raises nothing."""
    return [str(ref_of(device)) for device in reachable(names) if answers(device)]


def _why_away(device: Device, failure: Failure) -> Failure:
    """Return the failure to report: a lost phone that now asks for authorization needs other advice."""
    try:
        now = failure_of_state(device.serial, state_of(ref_of(device)))
    except (DeviceError, MissingPrerequisiteError):
        return failure
    return now if now.failure_class is FailureClass.DEVICE_UNAUTHORIZED else failure


def _repair_server(device: Device) -> str:
    if server := ref_of(device).server:
        return "" if listens(server.host, server.port) else f"No adb server answers at {server}: it is waited for."
    try:
        return repair_server(last_listed())
    except MissingPrerequisiteError as error:
        return str(error)


def _reconnect(ref: DeviceRef) -> None:
    """Reconnect one phone. `adb reconnect offline` would affect other people's phones."""
    with suppress(DeviceError, MissingPrerequisiteError):  # the next poll notices it
        if state_of(ref) in _SILENT:
            reconnect(ref, timeout_s=_CONNECT_TIMEOUT_S)


DOWN_TIMEOUT_S = 60.0
"""A phone that was ordered to restart stops answering within this time."""
BOOT_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 1.0
_SLEEP = f"sleep {2 * DOWN_TIMEOUT_S:.0f}"


def restart(device: Device, *, stop: threading.Event, boot_timeout_s: float = BOOT_TIMEOUT_S) -> None:
    """Restart a phone. `stop` ends the wait for it.

    Only a waiting command that is cut off proves that the phone went down; neither the order's answer nor a phone that
    answers does. Raises `DeviceError` if the phone refuses the order, does not go down, or does not come back.
    """
    serial, ref = device.serial, ref_of(device)
    adb = TimedDevice(adb_client(ref.server), serial=ref.serial)
    adb.limit_s = _ANSWER_TIMEOUT_S
    try:
        with _service(adb, f"shell:{_SLEEP}") as waiting:
            _order(adb)
            if not _is_cut_off(waiting):
                raise DeviceError(
                    Failure(FailureClass.DEVICE_OFFLINE, f"{serial} was ordered to restart, but did not go down.")
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
    """Reboot as `adb reboot` does, or as `adb shell reboot` if adbd lacks that service (a build for Linux)."""
    try:
        with _service(adb, "reboot:"):
            return
    except LOSSES:
        with suppress(*LOSSES), _service(adb, "shell:reboot"):  # the waiting command shows whether it went down
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
    ref = ref_of(device)
    deadline = time.monotonic() + timeout_s
    while not (answers(device) and str(ref) in identities([ref])):
        if time.monotonic() >= deadline or stop.wait(_LOOK_EVERY_S):
            message = f"{device.serial} rebooted and did not come back within {timeout_s:.0f} s."
            raise DeviceError(Failure(FailureClass.DEVICE_LOST, message))


_LOOKS = 100
"""How often at most, 0.05 s apart: a `settings put` takes seconds on a phone that is busy."""
_COMMANDS = (
    "[/]data/local/tmp/harness|[s]tay_on_while_plugged_in|[k]eyevent|[f]ixed-performance-mode"
    "|[s]caling_(governor|min_freq|max_freq)"
)
"""Parts of the command lines of knobs and note; written so that the pattern does not match itself."""
_SCRIPT = f"""
n=0
while [ $n -lt {_LOOKS} ] && grep -qE '{_COMMANDS}' /proc/[0-9]*/cmdline 2>/dev/null; do
  sleep 0.05
  n=$((n + 1))
done
"""
_TIMEOUT_S = 60.0


def await_commands(device: Device) -> None:
    """Wait for commands that a killed harness left running on the phone, at most some seconds.

    A late command would undo a restoration that overtook it. Never raises: the next command notices a lost phone.
    """
    with suppress(DeviceError):
        device.run_script(_SCRIPT, timeout_s=_TIMEOUT_S)
