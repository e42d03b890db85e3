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

        What runs longer than `timeout_s` is killed on the device and returned with `timed_out`.
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

    def pull(self, remote: str, local: Path, *, timeout_s: float = 120.0) -> None:
        """Copy a file from the device. Raises `DeviceError` for a missing file."""
        ...

    def sha256s(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Hash files as the device reads them now; None for one that is not there."""
        ...

    def remove(self, remote: str) -> None:
        """Remove a file or folder inside `work_folder`, if it exists."""
        ...


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
