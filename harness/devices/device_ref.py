"""Parse the names of devices and adb servers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import UsageError

DEFAULT_PORT = 5037
_LOCAL = ("127.0.0.1", "localhost", "::1")
_LAST_PORT = 65535


@dataclass(frozen=True)
class AdbServer:
    """The address of an adb server."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Return True if it runs on this computer."""
        return self.host in _LOCAL

    @classmethod
    def parse(cls, text: str) -> AdbServer:
        """Parse `HOST` or `HOST:PORT`. Raises `UsageError`."""
        host, _, port = text.rpartition(":") if ":" in text else (text, "", str(DEFAULT_PORT))
        if not host or not _is_port(port):
            raise UsageError(f"{text!r} names no adb server.", "Use HOST or HOST:PORT, such as lab1:5037.")
        return cls(host, int(port))

    @classmethod
    def of_environment(cls) -> AdbServer:
        """Return `ANDROID_ADB_SERVER_ADDRESS` and `ANDROID_ADB_SERVER_PORT`. Raises `UsageError`."""
        host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
        port = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
        if not _is_port(port):
            raise UsageError(
                f"Invalid port {port!r} in ANDROID_ADB_SERVER_PORT.", "Set it to a number from 1 to 65535."
            )
        return cls(host, int(port))


class RefKind(StrEnum):
    """How a device is reached."""

    ADB = "adb"
    VIRTUAL = "virtual"
    """A virtual phone that is started for one sweep."""
    HOST = "host"


@dataclass(frozen=True)
class DeviceRef:
    """A device by name, parsed once: `SERIAL`, `SERIAL@HOST:PORT`, `virtual`, `virtual:RECORDING` or `host`."""

    serial: str
    """For an ADB device, what its adb server calls it; else the kind."""
    server: AdbServer | None = None
    """The adb server that the device is attached to; None for the server of the environment."""
    kind: RefKind = RefKind.ADB
    recording: str | None = None
    """The recording that a virtual phone is started with; None for the default one."""

    def __str__(self) -> str:
        if self.recording:
            return f"{self.serial}:{self.recording}"
        return f"{self.serial}@{self.server}" if self.server else self.serial

    @classmethod
    def parse(cls, name: str | DeviceRef) -> DeviceRef:
        """Parse a device's name; return a parsed one as it is. Raises `UsageError` for a bad adb server."""
        if isinstance(name, DeviceRef):
            return name
        kind, _, recording = name.partition(":")
        if name == RefKind.HOST:
            return cls(name, kind=RefKind.HOST)
        if kind == RefKind.VIRTUAL:
            return cls(kind, kind=RefKind.VIRTUAL, recording=recording or None)
        serial, at, server = name.partition("@")
        return cls(serial, AdbServer.parse(server) if at else None)

    @property
    def is_on_network(self) -> bool:
        """Return True if its adb server reaches it over the network, so that `adb connect` can reconnect it."""
        return self.kind is RefKind.ADB and ":" in self.serial

    @property
    def label(self) -> str:
        """The device's name in results and messages: the serial, if the serial alone identifies the device.

        An address or the number of an emulator means something else on each computer. A factory serial stays the same
        wherever the phone is plugged in, and so does the phone's history.
        """
        return self.serial if self.kind is RefKind.ADB and not self.is_relative else str(self)

    @property
    def is_relative(self) -> bool:
        """Return True if the serial means something only on its own host."""
        return self.is_on_network or self.serial.startswith("emulator-")


def label_of(name: str) -> str:
    """Return a device's name in results. Raises `UsageError`."""
    return DeviceRef.parse(name).label


def server_at(text: str) -> AdbServer | None:
    """Parse `HOST[:PORT]`; return None if it is the environment's own adb server. Raises `UsageError`."""
    server, usual = AdbServer.parse(text), AdbServer.of_environment()
    is_usual = server.port == usual.port and (server.host == usual.host or (server.is_local and usual.is_local))
    return None if is_usual else server


def _is_port(text: str) -> bool:
    return text.isdigit() and 0 < int(text) <= _LAST_PORT
