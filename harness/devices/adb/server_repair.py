"""Restart an adb server that ended or hangs, but only if nobody else uses it.

A server has no owner: it serves every user of the host, and ending it disconnects all of their phones. Therefore a
server that hangs is ended only if two checks pass. No other process holds the lease of a phone that the server listed
when it last answered, because another harness between two commands has no open connection. And no other process is
connected to the server's port, because Android Studio, scrcpy or a person's `adb logcat` hold no lease. The kernel
answers both questions without the server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from typing import Any

import psutil

from harness.devices.adb import server
from harness.devices.adb.transport import LOSSES
from harness.devices.device_ref import AdbServer
from harness.devices.lease import other_holder

_LOOKS = 2
"""A server that is slow once is not hanging."""
_END_TIMEOUT_S = 10.0
_one_at_a_time = threading.Lock()
"""Held during a repair, because every phone of a sweep notices at the same moment."""


def repair_server(serials: Collection[str]) -> str:
    """Start a server that ended; restart one that hangs if nobody else uses it.

    `serials` are the phones that it listed when it last answered. Return one sentence about the repair, or why there
    was none; "" if the server answers. Raises `MissingPrerequisiteError` if no server can be started.
    """
    host, port = server.server_address()
    with _one_at_a_time:
        if server_answers(host, port):
            return ""
        if not AdbServer(host, port).is_local:
            return f"The adb server at {host}:{port} does not answer; harness restarts none on another host."
        if not server.listens(host, port):
            server.start_server(port)
            return "The adb server had ended: it was started again."
        if reason := _left_alone_because(port, serials):
            return f"The adb server does not answer, and is left alone: {reason}."
        server.start_server(port)
        return "The adb server did not answer, and nobody else used it: it was ended and started again."


def server_answers(host: str, port: int) -> bool:
    """Return True if the server returns its version within the time limit."""
    for _ in range(_LOOKS):
        try:
            server.TimedClient(host=host, port=port).server_version()
        except LOSSES:
            if not server.listens(host, port):
                return False
        else:
            return True
    return False


def _left_alone_because(port: int, serials: Collection[str]) -> str:
    """End the server if nobody else uses it; else return why not."""
    for serial in sorted(serials):
        if holder := other_holder(serial):
            return f"another harness holds {serial} ({holder})"
    sockets = psutil.net_connections("tcp")
    if others := _other_clients(sockets, port):
        return f"{', '.join(others)} uses it too"
    listener = next((one.pid for one in sockets if one.status == psutil.CONN_LISTEN and one.laddr.port == port), None)
    if listener is None:
        return f"what listens at port {port} belongs to another user"
    return _end(listener)


def _other_clients(sockets: list[Any], port: int) -> list[str]:
    """Return the names of the other connected processes, seen from the server's end of each connection.

    A client that gave up on the server has closed its end, and the server's is no longer `ESTABLISHED`.
    """
    by_client_port = {one.laddr.port: one.pid for one in sockets if one.raddr and one.raddr.port == port}
    connected = [one.raddr.port for one in sockets if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED]
    return sorted({_name(process) for process in map(by_client_port.get, connected) if process != os.getpid()})


def _name(process: int | None) -> str:
    try:
        return f"{psutil.Process(process).name()} (process {process})" if process else "a process of another user"
    except psutil.Error:
        return f"process {process}"


def _end(process: int) -> str:
    """Kill the server, because a hung one ignores every other signal. Return why that failed; "" if it worked."""
    try:
        found = psutil.Process(process)
        if not found.name().startswith("adb"):
            return f"what listens there is {found.name()} (process {process})"
        found.kill()
        found.wait(timeout=_END_TIMEOUT_S)
    except psutil.NoSuchProcess:
        return ""
    except psutil.Error as error:
        return f"process {process} cannot be ended ({type(error).__name__})"
    return ""
