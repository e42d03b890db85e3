"""The host as a device, with local processes."""

from __future__ import annotations

import hashlib
import os
import platform
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from harness.devices.device import (
    DEATH_LOOK_S,
    DEATH_LOOKS,
    RUN_MARK,
    CommandResult,
    Core,
    DeviceFacts,
    DeviceKind,
    KeptOutput,
    require_size,
)
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
        environment = environment or {}
        try:
            return _run(["/bin/sh", "-c", _FORK, "sh", *arguments], timeout_s, environment)
        finally:
            if run := environment.get(RUN_MARK):
                _end_leftovers(run)

    def run_script(self, script: str, *, timeout_s: float) -> CommandResult:
        """Run a constant script in the POSIX shell."""
        return _run(["/bin/sh", "-c", script], timeout_s, {})

    def push(self, local: Path) -> str:
        """Return the file's own path: it is here already."""
        if not local.is_file():
            raise DeviceError(Failure(FailureClass.INVALID_MODEL, f"{local}: no such file."))
        return str(local.resolve())

    def pull(self, remote: str, local: Path, *, timeout_s: float = 120.0, most_bytes: int | None = None) -> None:
        """Copy a file. Raises `DeviceError` if it does not exist or is too large."""
        if not Path(remote).is_file():
            raise DeviceError(Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, f"host: the file {remote} is not there."))
        require_size(HOST_SERIAL, remote, Path(remote).stat().st_size, most_bytes)
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


_FORK = 'exec 3>&2 2>/dev/null; ("$@") 2>&3 3>&-; exit $?'
"""Linux lets a program inherit the peak of memory of the process that forked it: a shell's is small, harness's is not.

The shell's own words about a signal are no part of the log.
"""


def _run(arguments: list[str], timeout_s: float, environment: Mapping[str, str]) -> CommandResult:
    started = time.monotonic()
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    stdout, stderr = KeptOutput(), KeptOutput()
    try:
        with process, selectors.DefaultSelector() as pipes:
            for pipe, kept in ((process.stdout, stdout), (process.stderr, stderr)):
                pipes.register(pipe, selectors.EVENT_READ, kept)  # type: ignore[arg-type]
            timed_out = not _read_all(pipes, started + timeout_s)
            if timed_out:
                os.killpg(process.pid, signal.SIGKILL)
    except BaseException:  # Ctrl-C must not leave the tool running
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    dropped_bytes = stdout.dropped_bytes + stderr.dropped_bytes
    wall_s, code = time.monotonic() - started, None if timed_out else process.returncode
    return CommandResult.of_shell(code, stdout.data, stderr.data, wall_s, dropped_bytes)


def _read_all(pipes: selectors.BaseSelector, deadline: float) -> bool:
    """Read all streams to their ends; return False if that takes longer than until `deadline`."""
    while pipes.get_map():
        if (left_s := deadline - time.monotonic()) <= 0:
            return False
        for key, _ in pipes.select(left_s):
            data = os.read(key.fd, 65536)
            key.data.add(data)
            if not data:
                pipes.unregister(key.fileobj)
    return True


def _end_leftovers(run: str) -> None:
    """Kill what a program left running, also in a session of its own: it inherited the mark of its run."""
    # Again and again: a process that is found may start another first, and none may die during the next run.
    for _ in range(DEATH_LOOKS):
        if not _kill_marked(f"{RUN_MARK}={run}".encode()):
            return
        time.sleep(DEATH_LOOK_S)


def _kill_marked(mark: bytes) -> int:
    """Kill every process with this variable in its environment; return how many there were."""
    killed = 0
    for process in psutil.pids():
        with suppress(OSError):  # another user's, or gone
            if mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                os.kill(process, signal.SIGKILL)
                killed += 1
    return killed


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
