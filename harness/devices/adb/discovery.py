"""List the attached devices in every ADB state, recognize booting ones and duplicates, and open them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import adbutils

from harness.devices.adb.device import AdbDevice
from harness.devices.adb.server import adb_client, server_address
from harness.devices.adb.transport import LOSSES, describe_loss
from harness.devices.device import Device, DeviceFacts
from harness.devices.device_ref import AdbServer, DeviceRef
from harness.errors import DeviceError, Failure, FailureClass, MissingPrerequisiteError

_LIST_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 15.0
_BOOT_TIMEOUT_S = 10.0
_ALIVE_TIMEOUT_S = 5.0
_POLL_S = 0.1
_last_listed: dict[tuple[str, int], frozenset[str]] = {}
"""Serials by adb server, because a server that hangs cannot list its phones."""


class ConnectionState(StrEnum):
    """The state of an attached device."""

    DEVICE = "device"
    BOOTING = "booting"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    NO_PERMISSIONS = "no permissions"
    RECOVERY = "recovery"
    SIDELOAD = "sideload"
    BOOTLOADER = "bootloader"
    SAME_SERIAL = "same serial"
    """Several attached devices have this serial, so that no command reaches a certain one."""
    UNKNOWN = "unknown"

    @classmethod
    def parse(cls, text: str) -> ConnectionState:
        """Parse the state that an adb server lists."""
        if text.startswith("no permissions"):
            return cls.NO_PERMISSIONS
        if text in ("authorizing", "connecting"):
            return cls.OFFLINE
        try:
            return cls(text)
        except ValueError:
            return cls.UNKNOWN

    @property
    def advice(self) -> str:
        """How to make a device in this state ready; empty if it is ready."""
        return _ADVICE.get(self, "")


_ADVICE = {
    ConnectionState.BOOTING: "Wait until Android has started.",
    ConnectionState.OFFLINE: FailureClass.DEVICE_OFFLINE.advice,
    ConnectionState.UNAUTHORIZED: FailureClass.DEVICE_UNAUTHORIZED.advice,
    ConnectionState.NO_PERMISSIONS: (
        "Let your user access USB devices: install Debian's android-sdk-platform-tools-common (udev rules), join the "
        "group plugdev, log in again and reconnect the phone."
    ),
    ConnectionState.RECOVERY: "Leave recovery mode: `adb reboot`.",
    ConnectionState.SIDELOAD: "Leave sideload mode: `adb reboot`.",
    ConnectionState.BOOTLOADER: "Leave the bootloader: `fastboot reboot`.",
    ConnectionState.SAME_SERIAL: (
        "Several devices have this serial: attach one of them at a time, or connect each by its network address "
        "(`adb tcpip 5555`, then `adb connect ADDRESS`)."
    ),
    ConnectionState.UNKNOWN: "Reconnect the device.",
}


@dataclass(frozen=True)
class AttachedDevice:
    """One line of an adb server's list."""

    serial: str
    """Its name: the serial, with its server if that is not the environment's."""
    state: ConnectionState
    facts: DeviceFacts | None = None
    """Only for a device that is ready, and only on request."""


def list_devices(
    server: AdbServer | None = None, *, with_facts: bool = False, seen: set[str] | None = None
) -> list[AttachedDevice]:
    """Return the attached devices in every state. Raises `MissingPrerequisiteError` without an adb server.

    A phone that is listed twice, such as by cable and by address, is returned once. `seen` holds the identities found
    on earlier servers.
    """
    client = adb_client(server)
    found: list[AttachedDevice] = []
    seen = set() if seen is None else seen
    for serial, state in _server_list(client, server):
        ref = DeviceRef(serial, server)
        device = AttachedDevice(str(ref), ConnectionState.parse(state))
        if device.state is ConnectionState.DEVICE:
            device, identity = _look_closer(AdbDevice(client, serial, ref=ref), with_facts)
            if identity in seen:
                continue
            seen.add(identity)
        found.append(device)
    return found


def open_device(name: str | DeviceRef, *, label: str | None = None) -> AdbDevice:
    """Open an attached device and label it `label`. Raises `DeviceError` if its state is not ready.

    Raises `MissingPrerequisiteError` without the environment's adb server, because only other servers may come back.
    """
    device = DeviceRef.parse(name)
    try:
        client = adb_client(device.server)
    except MissingPrerequisiteError as error:
        if device.server is None:
            raise
        message = f"{device.label}: no adb server answers at {device.server}."
        raise DeviceError(Failure(FailureClass.DEVICE_LOST, message, "the server does not listen")) from error
    states = dict(_server_list(client, device.server))
    state = ConnectionState.parse(states[device.serial]) if device.serial in states else None
    if state is None:
        listed = ", ".join(f"{serial} ({ConnectionState.parse(text)})" for serial, text in states.items())
        failure = failure_of_state(device.label, None)
        message = f"{failure.message.removesuffix('.')}; attached: {listed or 'no device'}."
        raise DeviceError(
            replace(failure, message=message), "Name an attached device, or connect this one; see `harness devices`."
        )
    if state is not ConnectionState.DEVICE:
        raise DeviceError(failure_of_state(device.label, state), state.advice)
    return AdbDevice(client, device.serial, ref=device, label=label)


def ref_of(device: Device) -> DeviceRef:
    """Return the name by which a device can be opened again."""
    return device.ref if isinstance(device, AdbDevice) else DeviceRef.parse(device.serial)


def reopen(device: Device) -> AdbDevice:
    """Open the same device again, with nothing cached. Raises `DeviceError`."""
    return open_device(ref_of(device), label=device.serial)


def reachable(names: Iterable[str | DeviceRef]) -> Iterator[AdbDevice]:
    """Return the devices whose adb server answers. Asks each server once, because one that is off takes seconds."""
    clients: dict[AdbServer | None, adbutils.AdbClient | None] = {}
    for name in names:
        device = DeviceRef.parse(name)
        if device.server not in clients:
            try:
                clients[device.server] = adb_client(device.server)
            except MissingPrerequisiteError:
                clients[device.server] = None
        if client := clients[device.server]:
            yield AdbDevice(client, device.serial, ref=device)


def connect(name: str | DeviceRef, *, timeout_s: float = _CONNECT_TIMEOUT_S) -> str:
    """Connect the adb server to HOST:PORT and wait until the device is ready; return its name.

    The server's answer alone proves nothing: "already connected" may be a device that is offline or hangs, and
    connecting right after a disconnect may race. Only a command that returns does. Raises `DeviceError`.
    """
    device = DeviceRef.parse(name)
    client, address = adb_client(device.server), device.serial
    deadline = time.monotonic() + timeout_s
    answer, state = "", None
    while time.monotonic() < deadline:
        try:
            answer = client.connect(address, timeout=max(1.0, deadline - time.monotonic()))
            state = dict(_server_list(client)).get(address)
        except LOSSES as error:
            answer = str(error)
        if state == "device" and _runs_commands(client, address, deadline):
            return str(device)
        if state == "offline":  # a stale connection stays offline until it is dropped
            _drop(client, address, deadline)
        if state == "unauthorized":
            break
        time.sleep(_POLL_S)
    known = ConnectionState.parse(state) if state else None
    failure = failure_of_state(device.label, known)
    raise DeviceError(replace(failure, evidence=answer.strip() or failure.evidence))


def _drop(client: adbutils.AdbClient, address: str, deadline: float) -> None:
    """Disconnect and wait until the server has dropped the connection, or it would drop the next one too."""
    client.disconnect(address)
    while address in dict(_server_list(client)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _runs_commands(client: adbutils.AdbClient, address: str, deadline: float) -> bool:
    remaining_s = max(0.5, min(_ALIVE_TIMEOUT_S, deadline - time.monotonic()))
    try:
        return AdbDevice(client, address).run_script("true", timeout_s=remaining_s).ok
    except DeviceError:
        return False


def ready_devices(server: AdbServer | None = None) -> list[str]:
    """Return the names of an adb server's ready devices, without asking any device.

    Raises `DeviceError`, `MissingPrerequisiteError`.
    """
    listed = _server_list(adb_client(server), server)
    return [
        str(DeviceRef(serial, server))
        for serial, state in listed
        if ConnectionState.parse(state) is ConnectionState.DEVICE
    ]


def identities(names: Iterable[str | DeviceRef]) -> dict[str, str]:
    """Return the identity of each booted phone, the same under any name. Runs one command per phone.

    Omits phones of an adb server that does not answer.
    """
    looks = [_look_closer(device, with_facts=False) for device in reachable(names)]
    return {device.serial: identity for device, identity in looks if device.state is ConnectionState.DEVICE}


def disconnect(name: str) -> None:
    """Take a network device off the server's list, if it is there."""
    device = DeviceRef.parse(name)
    try:
        adb_client(device.server).disconnect(device.serial)
    except LOSSES as error:
        raise describe_loss(error, device.label) from error


def chosen_serials(asked: Sequence[str]) -> list[str]:
    """Return the given serials, else those of `ANDROID_SERIAL` (separated by commas), else none."""
    if asked:
        return list(asked)
    return [serial for serial in os.environ.get("ANDROID_SERIAL", "").split(",") if serial]


def reconnect(name: str | DeviceRef, *, timeout_s: float) -> None:
    """Reconnect the adb server to one device, as `adb -s SERIAL reconnect` does.

    A device on the network is gone from the server's list until it is connected to. Raises `DeviceError`.
    """
    device = DeviceRef.parse(name)
    try:
        with adb_client(device.server).make_connection(timeout=timeout_s) as connection:
            connection.send_command(f"host-serial:{device.serial}:reconnect")
            connection.check_okay()
    except LOSSES as error:
        raise describe_loss(error, device.label) from error


def state_of(name: str | DeviceRef) -> ConnectionState | None:
    """Return the state in which the adb server lists a device; None if it does not.

    Raises `DeviceError` and `MissingPrerequisiteError`.
    """
    device = DeviceRef.parse(name)
    states = dict(_server_list(adb_client(device.server), device.server))
    return ConnectionState.parse(states[device.serial]) if device.serial in states else None


def last_listed() -> frozenset[str]:
    """Return the serials that the environment's adb server listed when it last answered this process."""
    return _last_listed.get(server_address(), frozenset())


def _server_list(client: adbutils.AdbClient, server: AdbServer | None = None) -> list[tuple[str, str]]:
    try:
        with client.make_connection(timeout=_LIST_TIMEOUT_S) as connection:
            connection.send_command("host:devices")
            connection.check_okay()
            lines = connection.read_string_block().splitlines()
    except LOSSES as error:
        raise describe_loss(error, f"adb server {server or ''}".rstrip()) from error
    pairs = [line.split("\t", 1) for line in lines if "\t" in line]
    _last_listed[client.host, client.port] = frozenset(serial for serial, _ in pairs)
    times = Counter(serial for serial, _ in pairs)
    return [(serial, ConnectionState.SAME_SERIAL if times[serial] > 1 else state.strip()) for serial, state in pairs]


def _look_closer(adb: AdbDevice, with_facts: bool) -> tuple[AttachedDevice, str]:
    """Return the device, booting or ready, and its identity: its serial number and this boot's id."""
    device = AttachedDevice(str(adb.ref), ConnectionState.DEVICE)
    script = "getprop sys.boot_completed; getprop ro.serialno; cat /proc/sys/kernel/random/boot_id"
    try:
        lines = adb.run_script(script, timeout_s=_BOOT_TIMEOUT_S).stdout.splitlines()
        booted, serial_number = ([*lines, "", ""])[:2]
        if booted.strip() != "1":
            return replace(device, state=ConnectionState.BOOTING), device.serial
        facts = adb.facts() if with_facts else None
    except DeviceError as error:
        state = {
            FailureClass.DEVICE_UNAUTHORIZED: ConnectionState.UNAUTHORIZED,
        }.get(error.failure.failure_class, ConnectionState.OFFLINE)
        return replace(device, state=state), device.serial
    identity = "/".join(lines[1:]) if serial_number.strip() else device.serial
    return replace(device, facts=facts), identity


def failure_of_state(serial: str, state: ConnectionState | None) -> Failure:
    """Return the failure of a device that is listed in a state other than ready; None means not listed."""
    if state is None:
        return Failure(FailureClass.DEVICE_LOST, f"{serial} is not attached.", "not in the adb server's list")
    if state is ConnectionState.SAME_SERIAL:
        return Failure(FailureClass.DEVICE_OFFLINE, f"{serial} cannot be used. {state.advice}", f"state {state}")
    failure_class = {
        ConnectionState.UNAUTHORIZED: FailureClass.DEVICE_UNAUTHORIZED,
        ConnectionState.NO_PERMISSIONS: FailureClass.DEVICE_UNAUTHORIZED,
    }.get(state, FailureClass.DEVICE_OFFLINE)
    return Failure(failure_class, f"{serial} cannot be used: its state is {state}.", f"state {state}")
