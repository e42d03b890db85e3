"""Run one ADB conversation with a phone, under a time limit, and distinguish a lost phone from a result.

Built on adbutils's connections, without three of its habits: `shell2` without `v2` merges the streams and fails on a
non-zero exit code, `shell` returns partial output of a lost phone as if it were complete, and `sync` waits forever on a
hung phone.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import adbutils
from adbutils.errors import AdbConnectionError, AdbError, AdbTimeout

from harness.devices.device import KeptOutput
from harness.errors import DeviceError, Failure, FailureClass
from harness.files import failure_of_host

_LOG = logging.getLogger(__name__)
_STDOUT, _STDERR, _EXIT = 1, 2, 3
_HEADER_BYTES = 5
_MOST_PACKET_BYTES = 16 * 1024 * 1024
"""adbd sends at most 1 MiB at once; a longer packet is noise, and would be waited for."""
_TPORT_VERSION = 41
"""First server version that knows `host:tport`."""


class TimedDevice(adbutils.AdbDevice):
    """adbutils's device, with a time limit for each read and write of every connection."""

    limit_s: float = 60.0
    _knows_tport: bool | None = None

    def open_transport(self, command: str | None = None, timeout: float | None = None) -> adbutils.AdbConnection:
        """Connect to the phone itself, or to one of the server's services about it."""
        limit_s = timeout if timeout is not None and timeout < self.limit_s else self.limit_s
        started = time.monotonic()
        try:
            return self._open(command, limit_s)
        finally:
            _LOG.debug("%s: connect, %.1f ms: %s", self.serial, 1000 * (time.monotonic() - started), command or "")

    def _open(self, command: str | None, limit_s: float) -> adbutils.AdbConnection:
        if command is not None:
            return super().open_transport(command, timeout=limit_s)
        if self._knows_tport is None:
            self._knows_tport = self._client.server_version() >= _TPORT_VERSION
        connection: adbutils.AdbConnection = self._client.make_connection(timeout=limit_s)
        try:
            connection.send_command(f"host:{'tport:serial' if self._knows_tport else 'transport'}:{self.serial}")
            connection.check_okay()
            if self._knows_tport:
                connection.read(8)  # the transport's id
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True)
class ShellOutput:
    """The output of a shell service. `exit_code` is 128 + n for signal n; None if the time limit ended it."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    dropped_bytes: int
    """What is missing in the middle of endless output."""


def shell_v2(device: TimedDevice, command: str, *, timeout_s: float) -> ShellOutput:
    """Run one command line by the shell protocol, version 2 (adb's `shell_protocol.h`).

    Returns at `timeout_s` with the output until then. Raises adbutils's errors, OSError,
    and EOFError when the phone goes away before the exit code has come.
    """
    deadline = time.monotonic() + timeout_s
    stdout, stderr = KeptOutput(), KeptOutput()
    streams = {_STDOUT: stdout, _STDERR: stderr}
    exit_code = None
    with _opened(device, timeout_s) as connection:
        connection.send_command(f"shell,v2,raw:{command}")
        connection.check_okay()
        pending = bytearray()
        while exit_code is None and (remaining_s := deadline - time.monotonic()) > 0:
            connection.conn.settimeout(remaining_s)
            try:
                data = connection.conn.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise EOFError("the connection ended before the exit code came")
            pending += data
            exit_code = _take_packets(pending, streams)
    return ShellOutput(stdout.data, stderr.data, exit_code, stdout.dropped_bytes + stderr.dropped_bytes)


@contextmanager
def _opened(device: TimedDevice, timeout_s: float) -> Iterator[adbutils.AdbConnection]:
    """Open a connection and close its socket at once; adbutils's own `close` sleeps 10 ms each time."""
    connection = device.open_transport(timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.conn.close()


def _take_packets(pending: bytearray, streams: dict[int, KeptOutput]) -> int | None:
    """Move whole packets (kind, little-endian length, data) out of `pending`; return the exit code when it came."""
    while len(pending) >= _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(pending[1:_HEADER_BYTES], "little")
        if end > _MOST_PACKET_BYTES:
            raise ValueError(f"a packet of {end} bytes")
        if len(pending) < end:
            return None
        kind, data = pending[0], bytes(pending[_HEADER_BYTES:end])
        del pending[:end]
        if kind == _EXIT:
            return data[0]
        if kind in streams:
            streams[kind].add(data)
    return None


_EXIT_MARK = b"harness-exit-code:"


def shell_v1(device: TimedDevice, command: str, *, timeout_s: float) -> ShellOutput:
    """Run one command line on a phone older than Android 7, whose adbd returns no exit code and merges the streams.

    The shell prints a mark with the exit code last; without the mark, the phone was lost.
    """
    deadline = time.monotonic() + timeout_s
    output = KeptOutput()
    with _opened(device, timeout_s) as connection:
        connection.send_command(f"shell:({command}); echo {_EXIT_MARK.decode()}$?")
        connection.check_okay()
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return ShellOutput(output.data, b"", None, output.dropped_bytes)
            connection.conn.settimeout(remaining_s)
            try:
                data = connection.conn.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            output.add(data)
    body, mark, code = output.data.rpartition(_EXIT_MARK)
    if not mark or not code.strip().isdigit():
        raise EOFError("the connection ended before the exit code came")
    return ShellOutput(body, b"", int(code), output.dropped_bytes)


def receive_file(device: TimedDevice, remote: str, *, deadline: float) -> Iterator[bytes]:
    """Fetch a file piece by piece by adb's sync protocol, all of it before `deadline` (monotonic).

    Raises adbutils's errors, OSError and EOFError.
    """
    path = remote.encode()
    with _opened(device, max(0.1, deadline - time.monotonic())) as connection:
        connection.send_command("sync:")
        connection.check_okay()
        connection.conn.sendall(b"RECV" + len(path).to_bytes(4, "little") + path)
        while True:
            header = _exactly(connection.conn, 8, deadline)
            kind, size = header[:4], int.from_bytes(header[4:], "little")
            if kind == b"DONE":
                return
            if kind not in (b"DATA", b"FAIL") or size > _MOST_PACKET_BYTES:
                raise ValueError(f"{kind!r} of {size} bytes is no part of a file")
            data = _exactly(connection.conn, size, deadline)
            if kind == b"FAIL":
                raise AdbError(data.decode(errors="replace"))
            yield data


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Read `count` bytes before `deadline`, however slowly they come."""
    data = bytearray()
    while len(data) < count:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the whole file did not come within the time limit")
        connection.settimeout(remaining_s)
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("the connection ended before the file")
        data += part
    return bytes(data)


def describe_loss(error: Exception, serial: str) -> DeviceError:
    """Convert an error of adbutils, a socket or a file of this host into a failure of the right class."""
    if isinstance(error, OSError) and error.errno in _OF_FILES:
        return DeviceError(failure_of_host(error))
    text = str(error).strip()
    _LOG.debug("%s: ADB call failed: %s", serial, text or type(error).__name__)
    lowered = text.lower()
    if isinstance(error, AdbConnectionError | ConnectionRefusedError):
        failure_class, what = FailureClass.DEVICE_LOST, "the adb server does not answer"
    elif isinstance(error, AdbTimeout | socket.timeout | TimeoutError):
        failure_class, what = FailureClass.DEVICE_OFFLINE, "it did not answer within the time limit"
    elif "unauthorized" in lowered or "authorizing" in lowered:
        failure_class, what = FailureClass.DEVICE_UNAUTHORIZED, "it does not trust this computer"
    elif "offline" in lowered:
        failure_class, what = FailureClass.DEVICE_OFFLINE, "it is offline"
    elif "more than one" in lowered:
        failure_class, what = FailureClass.DEVICE_OFFLINE, "several attached devices have this serial"
    elif "not found" in lowered:
        failure_class, what = FailureClass.DEVICE_LOST, "it is not attached"
    else:
        failure_class, what = FailureClass.DEVICE_LOST, "the connection to it was lost"
    return DeviceError(Failure(failure_class, f"{serial}: {what}.", text or type(error).__name__))


_OF_FILES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EISDIR})
"""No socket fails like this: it was a file of this host that was sent or received."""
LOSSES = (AdbError, OSError, EOFError, AssertionError, ValueError)
"""Errors that adbutils and sockets raise if a phone misbehaves; adbutils asserts and parses numbers unchecked."""
