"""A phone, emulator or virtual phone on ADB."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar
from uuid import uuid4

import adbutils

from harness.devices.adb.transport import (
    LOSSES,
    ShellOutput,
    TimedDevice,
    describe_loss,
    receive_file,
    shell_v1,
    shell_v2,
)
from harness.devices.device import (
    DEATH_LOOK_S,
    DEATH_LOOKS,
    RUN_MARK,
    CommandResult,
    DeviceFacts,
    DeviceKind,
    require_size,
)
from harness.devices.device_ref import DeviceRef
from harness.devices.facts import FACTS_SCRIPT, facts_from_output
from harness.errors import DeviceError, Failure, FailureClass
from harness.files import failure_of_host, sha256_of

WORK_FOLDER = "/data/local/tmp/harness"
_BLOBS = f"{WORK_FOLDER}/blobs"
_PID_LINE = re.compile(rb"^harness-pid:(\d+)\r?\n")
_SHA256_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_SHORT_TIMEOUT_S = 20.0
_SLOWEST_PUSH_BYTES_PER_S = 200_000

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


class AdbDevice:
    """One phone by its serial. Everything that it writes there lies under `work_folder`."""

    def __init__(
        self, client: adbutils.AdbClient, serial: str, *, ref: DeviceRef | None = None, label: str | None = None
    ) -> None:
        """Open the phone that the adb server calls `serial`; results name it `label`, by default the label of `ref`."""
        self.ref = ref or DeviceRef(serial)
        self._serial = label or self.ref.label
        self._adb = TimedDevice(client, serial=serial)
        self._facts: DeviceFacts | None = None
        self._blobs: dict[str, str] = {}
        """SHA-256 of what is known to be on the phone, with its path there."""
        self._speaks_v2: bool | None = None

    @property
    def serial(self) -> str:
        """What results call it: the ADB serial, with its host where the serial alone would be ambiguous."""
        return self._serial

    @property
    def kind(self) -> DeviceKind:
        """What the device really is, according to its properties."""
        return self.facts().kind

    @property
    def work_folder(self) -> str:
        """The one folder that harness writes to."""
        return WORK_FOLDER

    def facts(self) -> DeviceFacts:
        """Read the device's facts in one round trip; cached."""
        if self._facts is None:
            result = self.run_script(FACTS_SCRIPT, timeout_s=_SHORT_TIMEOUT_S)
            self._facts = facts_from_output(self._serial, result.stdout)
        return self._facts

    def run(
        self, arguments: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> CommandResult:
        """Run one program; what runs longer than `timeout_s` is killed on the phone with all its children."""
        environment = environment or {}
        settings = "".join(f"{name}={shlex.quote(value)} " for name, value in environment.items())
        result = self._shell(f"{settings}exec {shlex.join(arguments)}", timeout_s)
        if run := environment.get(RUN_MARK):
            with suppress(DeviceError):  # the next call notices a lost phone; this result is whole
                self._end_leftovers(run)
        return result

    def run_script(self, script: str, *, timeout_s: float) -> CommandResult:
        """Run a constant shell script of harness's own."""
        return self._shell(script, timeout_s)

    def push(self, local: Path) -> str:
        """Bring a file to the phone, named by the SHA-256 of its contents, which is checked there."""
        data_sha256, size_bytes = sha256_of(local), local.stat().st_size
        if data_sha256 in self._blobs:
            return self._blobs[data_sha256]
        remote = f"{_BLOBS}/{data_sha256}"
        # What a push that was broken off left is removed first.
        if self._sha256s([remote], f"mkdir -p {_BLOBS} && rm -f {remote}.*.part && ")[remote] != data_sha256:
            self._send(local, remote, data_sha256, size_bytes)
        self._blobs[data_sha256] = remote
        return remote

    def pull(self, remote: str, local: Path, *, timeout_s: float = 120.0, most_bytes: int | None = None) -> None:
        """Bring a file from the phone. One that is missing, too large or late raises `DeviceError`; nothing is left."""
        part = local.with_name(f"{local.name}.{uuid4().hex}.part")
        deadline, self._adb.limit_s = time.monotonic() + timeout_s, timeout_s
        found = self._talk(lambda: self._adb.sync.stat(remote))
        if found.mode == 0:
            raise DeviceError(
                Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, f"{self._serial}: the file {remote} is not there.")
            )
        require_size(self._serial, remote, found.size, most_bytes)
        size_bytes = 0
        try:
            with part.open("wb") as file:
                pieces = receive_file(self._adb, remote, deadline=deadline)
                while piece := self._talk(lambda: next(pieces, b"")):
                    size_bytes += len(piece)  # asked for above, but in 32 bits
                    require_size(self._serial, remote, size_bytes, most_bytes)
                    file.write(piece)
            part.replace(local)
        except OSError as error:
            raise DeviceError(failure_of_host(error)) from error
        finally:
            part.unlink(missing_ok=True)

    def sha256s(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Hash files as the phone reads them now; if one is not what was pushed, every file is checked at its push."""
        found = self._sha256s(paths)
        if not self._blobs.keys() >= set(found.values()):
            self._blobs.clear()
        return found

    def remove(self, remote: str) -> None:
        """Remove a file or folder of the work folder; anything else is refused."""
        path = PurePosixPath(remote)
        if ".." in path.parts or not path.is_relative_to(WORK_FOLDER):
            raise DeviceError(
                Failure(FailureClass.INTERNAL, f"{remote} is outside {WORK_FOLDER} and is left alone.", remote)
            )
        self.run(["rm", "-rf", str(path)], timeout_s=_SHORT_TIMEOUT_S)
        self._blobs = {
            sha256: kept for sha256, kept in self._blobs.items() if not PurePosixPath(kept).is_relative_to(path)
        }

    def _shell(self, command: str, timeout_s: float) -> CommandResult:
        started = time.monotonic()
        # The shell tells its process id first, so that what times out can be killed; `exec` keeps that id.
        output = self._talk(lambda: self._shell_service(f"echo harness-pid:$$ >&2; {command}", timeout_s))
        wall_s = time.monotonic() - started
        _LOG.debug("%s: shell, %.1f ms, exit code %s: %s", self._serial, 1000 * wall_s, output.exit_code, command)
        told = _PID_LINE.match(output.stderr)
        stderr = output.stderr[told.end() :] if told else output.stderr
        if output.exit_code is None and told:
            self._kill(int(told[1]))
        return CommandResult.of_shell(output.exit_code, output.stdout, stderr, wall_s, output.dropped_bytes)

    def _shell_service(self, command: str, timeout_s: float) -> ShellOutput:
        self._adb.limit_s = timeout_s
        if self._speaks_v2 is None:
            self._speaks_v2 = "shell_v2" in self._adb.get_features()
        return (shell_v2 if self._speaks_v2 else shell_v1)(self._adb, command, timeout_s=timeout_s)

    def _end_leftovers(self, run: str) -> None:
        """Kill what a program left running, also in a session of its own: it inherited the mark of its run."""
        # Again and again, because a process that is found may start another before it is killed.
        look = f"grep -l {RUN_MARK}={run} /proc/[0-9]*/environ 2>/dev/null"
        kill = "for file in $found; do pid=${file%/environ}; kill -9 ${pid#/proc/}; echo ${pid#/proc/}; done"
        script = f'n=0; while [ $n -lt 5 ] && found=$({look}) && [ "$found" ]; do {kill}; n=$((n + 1)); done'
        if killed := set(self._shell(script, _SHORT_TIMEOUT_S).stdout.split()):
            _LOG.info("%s: killed what was left running: %s", self._serial, ", ".join(sorted(killed)))

    def _kill(self, pid: int) -> None:
        """Kill a process with its group, which adbd makes for every shell, and wait until nothing of it runs.

        The caller may measure next, and a dying process must not run during that.
        """
        # A line of /proc/PID/stat: id, (name), state, parent, group; what is Z or X only waits to be counted.
        lives = f"cat /proc/[0-9]*/stat 2>/dev/null | grep -q ') [^ZX] [0-9]* {pid} '"
        wait = f"n=0; while [ $n -lt {DEATH_LOOKS} ] && {lives}; do sleep {DEATH_LOOK_S}; n=$((n + 1)); done"
        self._talk(lambda: self._shell_service(f"kill -9 -{pid} || kill -9 {pid}; {wait}", _SHORT_TIMEOUT_S))

    def _sha256s(self, paths: Sequence[str], prepare: str = "") -> dict[str, str | None]:
        result = self._shell(f"{prepare}sha256sum {shlex.join(paths)}", _SHORT_TIMEOUT_S * len(paths))
        if result.exit_code == 127:  # noqa: PLR2004 - the shell's code for a missing program: Android before 6
            return {path: self._sha256_by_pulling(path) for path in paths}
        found = {match[2]: match[1] for match in map(_SHA256_LINE.fullmatch, result.stdout.splitlines()) if match}
        return {path: found.get(path) for path in paths}

    def _sha256_by_pulling(self, remote: str) -> str | None:
        digest = hashlib.sha256()
        try:
            for piece in receive_file(self._adb, remote, deadline=time.monotonic() + self._adb.limit_s):
                digest.update(piece)
        except adbutils.AdbError:
            return None
        return digest.hexdigest()

    def _send(self, local: Path, remote: str, data_sha256: str, size_bytes: int) -> None:
        part = f"{remote}.{uuid4().hex}.part"
        self._adb.limit_s = max(_SHORT_TIMEOUT_S, size_bytes / _SLOWEST_PUSH_BYTES_PER_S)
        try:
            self._adb.sync._push_file(local, part, 0o755)
        except LOSSES as error:
            raise self._push_failure(error, part, size_bytes) from error
        if self._sha256s([part])[part] != data_sha256:
            self.remove(part)
            raise DeviceError(
                Failure(FailureClass.PUSH_CORRUPT, f"{self._serial}: {local.name} arrived changed.", data_sha256)
            )
        self.run(["mv", part, remote], timeout_s=_SHORT_TIMEOUT_S)

    def _push_failure(self, error: Exception, part: str, size_bytes: int) -> DeviceError:
        """Find the reason of a failed push, which ADB's protocol leaves out: a full disk, or the phone is gone."""
        if not isinstance(error, adbutils.AdbError) or "FAIL" not in str(error):
            return describe_loss(error, self._serial)
        free_kb = self._free_kb()
        self.remove(part)
        if free_kb is not None and free_kb * 1024 < size_bytes:
            return DeviceError(
                Failure(
                    FailureClass.STORAGE_FULL,
                    f"{self._serial}: {size_bytes / 1e6:.1f} MB do not fit, {free_kb / 1e3:.1f} MB are free.",
                    "df /data/local/tmp",
                )
            )
        return describe_loss(error, self._serial)

    def _free_kb(self) -> int | None:
        lines = self._shell("df -k /data/local/tmp", _SHORT_TIMEOUT_S).stdout.splitlines()
        numbers = re.findall(r"\s(\d+)(?=\s)", lines[-1]) if lines else []
        return int(numbers[2]) if len(numbers) >= 3 else None  # noqa: PLR2004 - size, used, available

    def _talk(self, conversation: Callable[[], T]) -> T:
        try:
            return conversation()
        except DeviceError:
            raise
        except LOSSES as error:
            raise describe_loss(error, self._serial) from error
