"""The adb server that everything on ADB goes through: found by environment, started where it is local."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from functools import cache

import adbutils

from harness.errors import NothingToRunOnError, UsageError

DEFAULT_PORT = 5037
CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0
"""What every question to the server has, unless it brings a limit of its own."""
START_TIMEOUT_S = 20.0
_LOCAL = ("127.0.0.1", "localhost", "::1")
_one_start_at_a_time = threading.Lock()
"""Every phone's thread misses a server that has ended; of several that start one, `adb` lets all but one fail."""


class _Connection(adbutils.AdbConnection):  # type: ignore[misc]
    """adbutils's connection; where nothing listens it fails, instead of starting a server by itself."""

    def _safe_connect(self) -> socket.socket:
        connected: socket.socket = self._create_socket()
        return connected


class TimedClient(adbutils.AdbClient):  # type: ignore[misc]
    """adbutils's client, with a time limit for each read and write."""

    def make_connection(self, timeout: float | None = None) -> adbutils.AdbConnection:
        """Connect to the server. Raises adbutils's errors."""
        connection = _Connection(self.host, self.port)
        connection.conn.settimeout(timeout or ANSWER_TIMEOUT_S)
        return connection


def server_address() -> tuple[str, int]:
    """Return host and port from `ANDROID_ADB_SERVER_ADDRESS` and `ANDROID_ADB_SERVER_PORT`. Raises `UsageError`."""
    host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    port = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004
        raise UsageError(f"ANDROID_ADB_SERVER_PORT is {port!r}, not a port.", "Set it to a number from 1 to 65535.")
    return host, int(port)


def adb_client() -> adbutils.AdbClient:
    """Return a client of a running adb server. Raises `NothingToRunOnError` when none can be had."""
    host, port = server_address()
    if not listens(host, port):
        if not is_local(host):
            raise NothingToRunOnError(
                f"No adb server answers at {host}:{port}.",
                "Start it there with `adb -a nodaemon server`, or unset ANDROID_ADB_SERVER_ADDRESS.",
            )
        start_server(port)
    return TimedClient(host=host, port=port)


def is_local(host: str) -> bool:
    """Tell whether a server's address is of this host."""
    return host in _LOCAL


def listens(host: str, port: int) -> bool:
    """Tell whether anything accepts connections there; a server that hangs does too."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def start_server(port: int) -> None:
    """Start a server on this host, unless another thread or process has just done so. Raises `NothingToRunOnError`."""
    with _one_start_at_a_time:
        if not listens("127.0.0.1", port):
            _start_server(port)


def _start_server(port: int) -> None:
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(port)}
    environment.pop("ANDROID_ADB_SERVER_ADDRESS", None)  # adb starts no server for an address, even a local one
    try:
        finished = subprocess.run(
            [adb_program(), "start-server"],
            env=environment, timeout=START_TIMEOUT_S, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NothingToRunOnError(
            f"`adb start-server` did not end within {START_TIMEOUT_S:.0f} s.", "Run it by hand and read what it says."
        ) from error
    except OSError as error:
        raise NothingToRunOnError(
            f"{adb_program()} cannot be started: {error.strerror}.", "Install Android's platform-tools."
        ) from error
    if not listens("127.0.0.1", port):
        said = (finished.stderr or finished.stdout).strip().splitlines()
        raise NothingToRunOnError(
            f"The adb server cannot be started: {said[-1] if said else 'no reason given'}.",
            "Run `adb start-server` by hand, or set ANDROID_ADB_SERVER_PORT to a free port.",
        )


@cache
def adb_program() -> str:
    """Return the path of adb: `$ADBUTILS_ADB_PATH`, the PATH, or adbutils's own. Raises `NothingToRunOnError`."""
    try:
        return str(adbutils.adb_path())
    except Exception as error:
        raise NothingToRunOnError(
            "The program adb was not found.", "Install Android's platform-tools (Debian: `apt install adb`)."
        ) from error
