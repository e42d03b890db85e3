"""How a phone is named: `SERIAL`, or `SERIAL@HOST:PORT` where it is attached to another computer's adb server."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.errors import UsageError

DEFAULT_PORT = 5037
_LOCAL = ("127.0.0.1", "localhost", "::1")
_LAST_PORT = 65535


@dataclass(frozen=True)
class AdbServer:
    """Where an adb server listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether it belongs to this computer."""
        return self.host in _LOCAL

    @classmethod
    def parse(cls, text: str) -> AdbServer:
        """Read `HOST` or `HOST:PORT`. Raises `UsageError`."""
        host, _, port = text.rpartition(":") if ":" in text else (text, "", str(DEFAULT_PORT))
        if not host or not _is_port(port):
            raise UsageError(f"{text!r} names no adb server.", "Write HOST or HOST:PORT, such as lab1:5037.")
        return cls(host, int(port))

    @classmethod
    def of_environment(cls) -> AdbServer:
        """Return `ANDROID_ADB_SERVER_ADDRESS` and `ANDROID_ADB_SERVER_PORT`. Raises `UsageError`."""
        host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
        port = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
        if not _is_port(port):
            raise UsageError(f"ANDROID_ADB_SERVER_PORT is {port!r}, not a port.", "Set it to a number from 1 to 65535.")
        return cls(host, int(port))


@dataclass(frozen=True)
class DeviceRef:
    """One phone, and the adb server that it is attached to."""

    serial: str
    """What that server calls it."""
    server: AdbServer | None = None
    """None: the server of the environment."""

    def __str__(self) -> str:
        return f"{self.serial}@{self.server}" if self.server else self.serial

    @classmethod
    def parse(cls, text: str) -> DeviceRef:
        """Read `SERIAL` or `SERIAL@HOST:PORT`. Raises `UsageError` for what names no server after the @."""
        serial, at, server = text.partition("@")
        return cls(serial, AdbServer.parse(server) if at else None)

    @property
    def is_on_network(self) -> bool:
        """Whether its server reaches it over the network, so that it can be connected to anew."""
        return ":" in self.serial

    @property
    def label(self) -> str:
        """What results and messages call it: the serial, where that alone tells it from every other phone.

        An address, or the number of an emulator, means something else on each computer. A serial that a phone was
        made with stays the same wherever it is plugged in, and so does its history.
        """
        return str(self) if self.is_relative else self.serial

    @property
    def is_relative(self) -> bool:
        """Whether the serial means something on its own host only."""
        return self.is_on_network or self.serial.startswith("emulator-")


def label_of(name: str) -> str:
    """Return what results call the device of this name. Raises `UsageError`."""
    return DeviceRef.parse(name).label


def server_at(text: str) -> AdbServer | None:
    """Return the adb server at `HOST[:PORT]`; None where that is the one of the environment. Raises `UsageError`."""
    server, usual = AdbServer.parse(text), AdbServer.of_environment()
    is_usual = server.port == usual.port and (server.host == usual.host or (server.is_local and usual.is_local))
    return None if is_usual else server


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) <= _LAST_PORT
