"""Bring back a device that went away: the adb server first, then its connection, always within a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from harness.devices.adb.discovery import (
    DeviceState,
    connect,
    failure_of_state,
    last_listed,
    name_of,
    reachable,
    reconnect,
    state_of,
)
from harness.devices.adb.server import listens
from harness.devices.adb.server_repair import mend_server
from harness.devices.device import Device
from harness.devices.device_ref import DeviceName
from harness.errors import DeviceError, Failure, FailureClass, NothingToRunOnError

_ALIVE_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_RETRY_S = 0.5
_FIRST_RECONNECT_S = 5.0
"""A phone that comes back by itself is given so long; the time doubles, since each attempt begins a handshake anew."""
_SILENT = (DeviceState.DEVICE, DeviceState.OFFLINE)
"""States in which a device is attached and does not answer. One that asks to be trusted shows a dialog: it is left."""


def await_device(
    device: Device,
    *,
    deadline: float,
    stop: threading.Event,
    failure: Failure,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until a device that went away answers again, and do what may help it.

    `deadline` is of `time.monotonic`; `tell` hears what was done to the adb server. Raises `DeviceError` when the
    deadline has passed or `stop` is set: with `failure`, unless the device waits for a person by now.
    """
    pause_s = _FIRST_RECONNECT_S
    next_reconnect = time.monotonic() + pause_s
    told = ""
    while not answers(device):
        if time.monotonic() >= deadline or stop.wait(_RETRY_S):
            raise DeviceError(_why_away(device, failure))
        said = _mend_server(device)
        if said and said != told:
            tell(said)
            told = said
        if time.monotonic() >= next_reconnect:
            _reconnect(name_of(device))
            pause_s *= 2
            next_reconnect = time.monotonic() + pause_s


def answers(device: Device) -> bool:
    """Tell whether a device runs commands, connecting anew to one on the network."""
    try:
        if DeviceName.parse(name_of(device)).is_on_network:
            connect(name_of(device), timeout_s=_CONNECT_TIMEOUT_S)
        return device.run_script("true", timeout_s=_ALIVE_TIMEOUT_S).ok
    except (DeviceError, NothingToRunOnError):
        return False


def are_back(names: Collection[str]) -> list[str]:
    """Return which devices that went away answer again, connecting anew to those on the network. Raises nothing."""
    return [name_of(device) for device in reachable(names) if answers(device)]


def _why_away(device: Device, failure: Failure) -> Failure:
    """Return what the advice is needed for: no cable mends a phone that was lost and now asks to be trusted."""
    try:
        now = failure_of_state(device.serial, state_of(name_of(device)))
    except (DeviceError, NothingToRunOnError):
        return failure
    return now if now.failure_class is FailureClass.DEVICE_UNAUTHORIZED else failure


def _mend_server(device: Device) -> str:
    if server := DeviceName.parse(name_of(device)).server:
        return "" if listens(server.host, server.port) else f"No adb server answers at {server}: it is waited for."
    try:
        return mend_server(last_listed())
    except NothingToRunOnError as error:
        return str(error)


def _reconnect(name: str) -> None:
    """Make one phone's connection anew. `adb reconnect offline` is not used: it would touch phones of others."""
    with suppress(DeviceError, NothingToRunOnError):  # found out by the next look
        if state_of(name) in _SILENT:
            reconnect(name, timeout_s=_CONNECT_TIMEOUT_S)
