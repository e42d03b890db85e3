"""A per-serial lease; the kernel releases it when the process exits, even on SIGKILL.

A lease is a name in Linux's abstract socket namespace (unix(7)). The kernel gives it to one process of the host, of
any user, and releases it when that process exits, so no lease is ever stale and no file is left over. Lock files do
not work here: in a folder that all users may write to, `fs.protected_regular` (2 in Debian) keeps one user from opening
another's file, and each user may have their own temporary folder.
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
"""Processes with different values do not see each other's leases, so that tests can run side by side."""
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group, as SO_PEERCRED gives them."""


class LeaseHeldError(DeviceError):
    """Another harness process holds the device, which may be free later."""


@contextmanager
def lease(serial: str) -> Iterator[None]:
    """Hold a device for a `with` block. Raises `LeaseHeldError`, which names the holder."""
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
    """Return True if any process of this host holds a device."""
    try:
        with lease(serial):
            return False
    except DeviceError:
        return True


def other_holder(serial: str) -> str:
    """Describe the other process that holds a device; return "" if it is free or held by this process."""
    if not is_held(serial):
        return ""
    process, description = _holder(_address(serial))
    return "" if process == os.getpid() else description


def _holder(address: bytes) -> tuple[int | None, str]:
    """Return the id and a description of the process that holds a lease.

    The id is None if the process has ended in the meantime or its queue of connections is full.
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
