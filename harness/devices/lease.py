"""One process at a time measures a device: a lease by serial, which ends with its process, however that ends.

A lease is a name in Linux's abstract socket namespace (unix(7)). The kernel gives it to one process of the host, of
whatever user, and takes it back when that process is gone, so no lease can be stale and no file is left over. A lock
file does worse here: in a folder that all users may write to, `fs.protected_regular` (2 in Debian) keeps one user from
opening the file of another, and each user may have a temporary folder of their own.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import DeviceError, Failure, FailureClass

SPACE_VARIABLE = "HARNESS_LEASES"
"""Leases of processes with different values do not see one another: for tests side by side on one computer."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group, as SO_PEERCRED gives them."""


class LeaseHeldError(DeviceError):
    """Another harness has the device: it is well, and may be free later."""


@contextmanager
def lease(serial: str) -> Iterator[None]:
    """Hold a device for the length of a `with` block. Raises `LeaseHeldError` that names the holder."""
    address = _address(serial)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        try:
            held.bind(address)
        except OSError:
            message = f"{serial} is in use by another harness ({_holder(address)[1]})."
            raise LeaseHeldError(Failure(FailureClass.DEVICE_OFFLINE, message, "its lease is held")) from None
        held.listen()
        yield


def _address(serial: str) -> bytes:
    name = f"{os.environ.get(SPACE_VARIABLE, '')}/{serial}"
    return b"\0harness-lease-" + hashlib.sha256(name.encode()).hexdigest().encode()


def is_held(serial: str) -> bool:
    """Tell whether any process of this host holds a device."""
    try:
        with lease(serial):
            return False
    except DeviceError:
        return True


def other_holder(serial: str) -> str:
    """Say which other process holds a device; empty where it is free, or held by this one."""
    if not is_held(serial):
        return ""
    process, told = _holder(_address(serial))
    return "" if process == os.getpid() else told


def _holder(address: bytes) -> tuple[int | None, str]:
    """Return the process that holds a lease, by id and in words, as far as the kernel tells.

    It may end meanwhile, or too many have asked.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(address)
        except OSError:
            return None, "process unknown"
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(credentials)
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return process, f"process {process} of user {name}"
