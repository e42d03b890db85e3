"""The interface of every device: a phone, an emulator, a virtual phone or the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from harness.errors import DeviceError, Failure, FailureClass


class DeviceKind(StrEnum):
    """The kind of a device; a label on every row."""

    PHONE = "phone"
    EMULATOR = "emulator"
    VIRTUAL = "virtual"
    HOST = "host"


@dataclass(frozen=True)
class Core:
    """One CPU core. `max_frequency_khz` is None if the kernel does not report it."""

    index: int
    max_frequency_khz: int | None = None
    part: int | None = None
    """ARM's part number, such as 0xd03 (Cortex-A53): some phones have two kinds of cores of one frequency."""


@dataclass(frozen=True)
class DeviceFacts:
    """Facts that a device reports about itself; None if unknown, never a guess."""

    serial: str
    kind: DeviceKind
    model: str | None = None
    maker: str | None = None
    soc: str | None = None
    board: str | None = None
    abis: tuple[str, ...] = ()
    """ABIs that the device claims, best first."""
    executable_abis: tuple[str, ...] = ()
    """ABIs whose binaries run here; differs from `abis` on a virtual phone, which looks like another machine."""
    android_version: str | None = None
    api_level: int | None = None
    fingerprint: str | None = None
    build_type: str | None = None
    cores: tuple[Core, ...] = ()
    memory_mb: float | None = None
    gpu: str | None = None
    gpu_driver: str | None = None
    """Maker, name and version of the OpenGL ES driver, as Android's compositor reports them."""

    @property
    def title(self) -> str:
        """A readable name, such as `Google Pixel 8`."""
        parts = [part for part in (self.maker, self.model) if part]
        if len(parts) == 2 and parts[1].lower().startswith(parts[0].lower()):  # noqa: PLR2004
            parts = parts[1:]
        return " ".join(parts) or self.serial


_SIGNAL_BASE, _LAST_SIGNAL = 128, 192
KEPT_BYTES = 4 * 1024 * 1024
"""Of the head and of the tail of a stream: a profile of thousands of operators fits, endless output fills no memory."""


class KeptOutput:
    """The head and the tail of what a process prints."""

    def __init__(self) -> None:
        self._head, self._tail = bytearray(), bytearray()
        self._count = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._count += len(data)
        room = KEPT_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * KEPT_BYTES:  # not each time, because that moves all of it
            del self._tail[:-KEPT_BYTES]

    @property
    def dropped_bytes(self) -> int:
        """How much is missing in the middle."""
        return max(0, self._count - 2 * KEPT_BYTES)

    @property
    def data(self) -> bytes:
        """What was kept, with a line in the middle that says what is missing."""
        tail = self._tail[-KEPT_BYTES:]
        if not self.dropped_bytes:
            return bytes(self._head + tail)
        return bytes(self._head) + b"\n----- %d bytes left out -----\n" % self.dropped_bytes + bytes(tail)


@dataclass(frozen=True)
class CommandResult:
    """One finished (or stopped) process on a device.

    Exactly one of `exit_code`, `signal` is set, unless `timed_out`: then both may be None.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    wall_s: float
    signal: int | None = None
    timed_out: bool = False
    dropped_bytes: int = 0
    """How much it printed between the head and the tail that were kept."""

    @classmethod
    def of_shell(
        cls, code: int | None, stdout: bytes, stderr: bytes, wall_s: float, dropped_bytes: int
    ) -> CommandResult:
        """Read a shell's exit code, which is 128 + n for signal n; None: the time limit ended it."""
        signal = code - _SIGNAL_BASE if code is not None and _SIGNAL_BASE < code <= _LAST_SIGNAL else None
        return cls(
            exit_code=None if signal else code,
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
            wall_s=wall_s,
            signal=signal,
            timed_out=code is None,
            dropped_bytes=dropped_bytes,
        )

    @property
    def ok(self) -> bool:
        """Return True if the process exited with code 0; benchmark_model does so after some failures too."""
        return self.exit_code == 0 and not self.timed_out


class Device(Protocol):
    """A device that runs variants. All methods raise `DeviceError`, and each has a time limit."""

    @property
    def serial(self) -> str:
        """The device's unique name: the ADB serial, or `host`."""
        ...

    @property
    def kind(self) -> DeviceKind:
        """The kind of the device."""
        ...

    @property
    def work_folder(self) -> str:
        """The one folder that harness writes to on the device."""
        ...

    def facts(self) -> DeviceFacts:
        """Read the device's facts (cached after the first call)."""
        ...

    def run(
        self,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> CommandResult:
        """Run one program. Arguments are quoted here and nowhere else.

        What runs longer than `timeout_s` is killed on the device and returned with `timed_out`. With `RUN_MARK` in its
        environment, what it leaves running is killed too, because that would disturb the next process.
        """
        ...

    def run_script(self, script: str, *, timeout_s: float) -> CommandResult:
        """Run a constant shell script, never one with names or values from outside."""
        ...

    def push(self, local: Path) -> str:
        """Copy a file to the device and return its path there.

        Files are stored under the SHA-256 of their contents, which is checked on the device; a file that is already
        there is not sent again.
        """
        ...

    def pull(self, remote: str, local: Path, *, timeout_s: float = 120.0, most_bytes: int | None = None) -> None:
        """Copy a file from the device within `timeout_s`. Raises `DeviceError` if it is missing or larger."""
        ...

    def sha256s(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Hash files as the device reads them now; None for one that is not there."""
        ...

    def remove(self, remote: str) -> None:
        """Remove a file or folder inside `work_folder`, if it exists."""
        ...


RUN_MARK = "HARNESS_RUN"
"""A variable by which the processes of one run of the tool are known, whatever session they move to."""

DEATH_LOOKS = 40
"""How often to look whether what was killed is gone."""
DEATH_LOOK_S = 0.05
"""How long to wait between two looks."""


def require_size(serial: str, remote: str, size_bytes: int, most_bytes: int | None) -> None:
    """Raise `DeviceError` for a file that is larger than it may be, before it fills this host's disk."""
    if most_bytes is not None and size_bytes > most_bytes:
        message = f"{serial}: the file {remote} holds more than the {most_bytes} bytes that are expected."
        raise DeviceError(Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, f"{size_bytes} bytes"))


_TIMEOUT_S = 20.0


@contextmanager
def fresh_folder(device: Device, folder: str) -> Iterator[None]:
    """Create an empty folder in the device's work folder for a `with` block. Raises `DeviceError`."""
    device.remove(folder)
    made = device.run(["mkdir", "-p", folder], timeout_s=_TIMEOUT_S)
    if not made.ok:
        raise DeviceError(
            Failure(FailureClass.STORAGE_FULL, f"Cannot create the folder {folder} on {device.serial}.", made.stderr)
        )
    try:
        yield
    finally:
        with suppress(DeviceError):  # the next process notices a lost phone; the folder is removed before use
            device.remove(folder)
