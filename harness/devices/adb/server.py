"""The adb server that everything on ADB goes through: found by environment or by name, started where it is local."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterable
from functools import cache

import adbutils
from adbutils.errors import AdbConnectionError, AdbTimeout

from harness.devices.device_ref import AdbServer
from harness.errors import MissingPrerequisiteError

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
"""What every question to the server has, unless it brings a limit of its own."""
START_TIMEOUT_S = 20.0
_one_start_at_a_time = threading.Lock()
"""Every phone's thread misses a server that has ended; of several that start one, `adb` lets all but one fail."""


class _Connection(adbutils.AdbConnection):
    """adbutils's connection; where nothing listens it fails, instead of starting a server by itself."""

    def _safe_connect(self) -> socket.socket:
        try:
            connected: socket.socket = self._create_socket()
        except AdbTimeout as error:  # a computer that is off; not a phone that is slow
            raise AdbConnectionError(str(error)) from error
        return connected


class TimedClient(adbutils.AdbClient):
    """adbutils's client, with a time limit for each read and write."""

    def make_connection(self, timeout: float | None = None) -> adbutils.AdbConnection:
        """Connect to the server. Raises adbutils's errors."""
        connection = _Connection(self.host, self.port)
        connection.conn.settimeout(timeout or ANSWER_TIMEOUT_S)
        return connection


def server_address() -> tuple[str, int]:
    """Return host and port of the server that the environment names. Raises `UsageError`."""
    server = AdbServer.of_environment()
    return server.host, server.port


def adb_client(server: AdbServer | None = None) -> adbutils.AdbClient:
    """Return a client of a running adb server, by default the environment's. Raises `MissingPrerequisiteError`.

    Only the environment's own server is started where it does not run, and only on this computer.
    """
    chosen = server or AdbServer.of_environment()
    if not listens(chosen.host, chosen.port):
        if server or not chosen.is_local:
            remedy = "leave that host out" if server else "unset ANDROID_ADB_SERVER_ADDRESS"
            raise MissingPrerequisiteError(
                f"No adb server answers at {chosen}.", f"Start it there with `adb -a nodaemon server`, or {remedy}."
            )
        start_server(chosen.port)
    return TimedClient(host=chosen.host, port=chosen.port)


def listens(host: str, port: int) -> bool:
    """Tell whether anything accepts connections there; a server that hangs does too."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def free_port(ports: Iterable[int], *, count: int = 1) -> int | None:
    """Return the first of `ports` from which `count` ports in a row are free on the loopback; None if there is none."""
    return next((port for port in ports if all(_is_free(port + offset) for offset in range(count))), None)


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def start_server(port: int) -> None:
    """Start a server on this host unless another thread or process just did. Raises `MissingPrerequisiteError`."""
    with _one_start_at_a_time:
        if not listens("127.0.0.1", port):
            _start_server(port)


def _start_server(port: int) -> None:
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(port)}
    environment.pop("ANDROID_ADB_SERVER_ADDRESS", None)  # adb starts no server for an address, even a local one
    try:
        finished = subprocess.run(
            [adb_program(), "start-server"],
            env=environment,
            timeout=START_TIMEOUT_S,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingPrerequisiteError(
            f"`adb start-server` did not end within {START_TIMEOUT_S:.0f} s.", "Run it by hand and read what it says."
        ) from error
    except OSError as error:
        raise MissingPrerequisiteError(
            f"{adb_program()} cannot be started: {error.strerror}.", "Install Android's platform-tools."
        ) from error
    if not listens("127.0.0.1", port):
        said = (finished.stderr or finished.stdout).strip().splitlines()
        raise MissingPrerequisiteError(
            f"The adb server cannot be started: {said[-1] if said else 'no reason given'}.",
            "Run `adb start-server` by hand, or set ANDROID_ADB_SERVER_PORT to a free port.",
        )


@cache
def adb_program() -> str:
    """Return the path of adb: `$ADBUTILS_ADB_PATH`, the PATH, or adbutils's own. Raises `MissingPrerequisiteError`."""
    try:
        return str(adbutils.adb_path())
    except Exception as error:
        raise MissingPrerequisiteError(
            "The program adb was not found.", "Install Android's platform-tools (Debian: `apt install adb`)."
        ) from error
