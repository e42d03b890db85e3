"""The host as a device, with local processes."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from harness.devices.device import CommandResult, Core, DeviceFacts, DeviceKind
from harness.errors import DeviceError, Failure, FailureClass
from harness.files import sha256_of
from harness.paths import cache_folder

HOST_SERIAL = "host"
_ABIS = {"x86_64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a", "armv7l": "armeabi-v7a", "i686": "x86"}


class HostDevice:
    """Runs variants on this computer."""

    def __init__(self, work_folder: Path | None = None) -> None:
        self._work_folder = work_folder or cache_folder() / "host"
        self._work_folder.mkdir(parents=True, exist_ok=True)

    @property
    def serial(self) -> str:
        """Always `host`."""
        return HOST_SERIAL

    @property
    def kind(self) -> DeviceKind:
        """Always HOST."""
        return DeviceKind.HOST

    @property
    def work_folder(self) -> str:
        """Where temporary inputs and outputs go."""
        return str(self._work_folder)

    def facts(self) -> DeviceFacts:
        """Read the computer's facts from the standard library and /sys."""
        abi = _ABIS.get(platform.machine(), platform.machine())
        return DeviceFacts(
            serial=HOST_SERIAL,
            kind=DeviceKind.HOST,
            model=platform.node() or None,
            soc=_processor_name(),
            board=platform.machine(),
            abis=(abi,),
            executable_abis=(abi,),
            android_version=None,
            fingerprint=platform.platform(),
            cores=tuple(Core(index, _max_frequency_khz(index)) for index in range(os.cpu_count() or 1)),
            memory_mb=psutil.virtual_memory().total / 1024**2,
        )

    def run(
        self, arguments: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run one program; at the limit its whole process group is killed."""
        return self._run(list(arguments), timeout_s, environment or {})

    def run_script(self, script: str, *, timeout_s: float) -> CommandResult:
        """Run a constant script in the POSIX shell."""
        return self._run(["sh", "-c", script], timeout_s, {})

    def push(self, local: Path) -> str:
        """Return the file's own path: it is here already."""
        if not local.is_file():
            raise DeviceError(Failure(FailureClass.INVALID_MODEL, f"{local}: no such file."))
        return str(local.resolve())

    def pull(self, remote: str, local: Path, *, timeout_s: float = 120.0) -> None:
        """Copy a file. Raises `DeviceError` if it does not exist."""
        if not Path(remote).is_file():
            raise DeviceError(Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, f"host: the file {remote} is not there."))
        shutil.copyfile(remote, local)

    def sha256s(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Hash files, and folders by all that they hold."""
        return {path: _sha256(Path(path)) for path in paths}

    def remove(self, remote: str) -> None:
        """Remove a file or folder of the work folder; anything else is refused."""
        path = Path(remote).resolve()
        if not path.is_relative_to(self._work_folder.resolve()):
            raise DeviceError(Failure(FailureClass.INTERNAL, f"{remote} is outside {self._work_folder}.", remote))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _run(self, arguments: list[str], timeout_s: float, environment: Mapping[str, str]) -> CommandResult:
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            said = f"{arguments[0]}: {error.strerror}"
            return CommandResult(127 if isinstance(error, FileNotFoundError) else 126, "", said, 0.0)
        timed_out = False
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        except BaseException:  # Ctrl-C must not leave the tool running
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        code = process.returncode
        return CommandResult(
            exit_code=code if code >= 0 and not timed_out else None,
            stdout=stdout.decode(errors="replace"),
            stderr=stderr.decode(errors="replace"),
            wall_s=time.monotonic() - started,
            signal=-code if code < 0 and not timed_out else None,
            timed_out=timed_out,
        )


def _sha256(path: Path) -> str | None:
    try:
        if not path.is_dir():
            return sha256_of(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listing = "".join(f"{sha256_of(file)} {file.relative_to(path)}\n" for file in files)
    except OSError:
        return None
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def _processor_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _max_frequency_khz(core: int) -> int | None:
    try:
        return int(Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq").read_text())
    except (OSError, ValueError):
        return None
