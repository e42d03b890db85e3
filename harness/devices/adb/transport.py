"""Run one ADB conversation with a phone, under a time limit, and distinguish a lost phone from a result.

Built on adbutils's connections, without three of its habits: `shell2` without `v2` merges the streams and fails on a
non-zero exit code, `shell` returns partial output of a lost phone as if it were complete, and `sync` waits forever on a
hung phone.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import adbutils
from adbutils.errors import AdbConnectionError, AdbError, AdbTimeout

from harness.errors import DeviceError, Failure, FailureClass

_LOG = logging.getLogger(__name__)
_STDOUT, _STDERR, _EXIT = 1, 2, 3
_HEADER_BYTES = 5
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


def shell_v2(device: TimedDevice, command: str, *, timeout_s: float) -> ShellOutput:
    """Run one command line by the shell protocol, version 2 (adb's `shell_protocol.h`).

    Returns at `timeout_s` with the output until then. Raises adbutils's errors, OSError,
    and EOFError when the phone goes away before the exit code has come.
    """
    deadline = time.monotonic() + timeout_s
    streams = {_STDOUT: bytearray(), _STDERR: bytearray()}
    with _opened(device, timeout_s) as connection:
        connection.send_command(f"shell,v2,raw:{command}")
        connection.check_okay()
        pending = bytearray()
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return ShellOutput(bytes(streams[_STDOUT]), bytes(streams[_STDERR]), None)
            connection.conn.settimeout(remaining_s)
            try:
                data = connection.conn.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise EOFError("the connection ended before the exit code came")
            pending += data
            exit_code = _take_packets(pending, streams)
            if exit_code is not None:
                return ShellOutput(bytes(streams[_STDOUT]), bytes(streams[_STDERR]), exit_code)


@contextmanager
def _opened(device: TimedDevice, timeout_s: float) -> Iterator[adbutils.AdbConnection]:
    """Open a connection and close its socket at once; adbutils's own `close` sleeps 10 ms each time."""
    connection = device.open_transport(timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.conn.close()


def _take_packets(pending: bytearray, streams: dict[int, bytearray]) -> int | None:
    """Move whole packets (kind, little-endian length, data) out of `pending`; return the exit code when it came."""
    while len(pending) >= _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(pending[1:_HEADER_BYTES], "little")
        if len(pending) < end:
            return None
        kind, data = pending[0], bytes(pending[_HEADER_BYTES:end])
        del pending[:end]
        if kind == _EXIT:
            return data[0]
        if kind in streams:
            streams[kind] += data
    return None


_EXIT_MARK = b"harness-exit-code:"


def shell_v1(device: TimedDevice, command: str, *, timeout_s: float) -> ShellOutput:
    """Run one command line on a phone older than Android 7, whose adbd returns no exit code and merges the streams.

    The shell prints a mark with the exit code last; without the mark, the phone was lost.
    """
    deadline = time.monotonic() + timeout_s
    output = bytearray()
    with _opened(device, timeout_s) as connection:
        connection.send_command(f"shell:({command}); echo {_EXIT_MARK.decode()}$?")
        connection.check_okay()
        while True:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return ShellOutput(bytes(output), b"", None)
            connection.conn.settimeout(remaining_s)
            try:
                data = connection.conn.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            output += data
    body, mark, code = bytes(output).rpartition(_EXIT_MARK)
    if not mark or not code.strip().isdigit():
        raise EOFError("the connection ended before the exit code came")
    return ShellOutput(body, b"", int(code))


def describe_loss(error: Exception, serial: str) -> DeviceError:
    """Convert an error of adbutils or a socket into a failure of the right class."""
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
    elif "not found" in lowered:
        failure_class, what = FailureClass.DEVICE_LOST, "it is not attached"
    else:
        failure_class, what = FailureClass.DEVICE_LOST, "the connection to it was lost"
    return DeviceError(Failure(failure_class, f"{serial}: {what}.", text or type(error).__name__))


LOSSES = (AdbError, OSError, EOFError, AssertionError, ValueError)
"""Errors that adbutils and sockets raise if a phone misbehaves; adbutils asserts and parses numbers unchecked."""
