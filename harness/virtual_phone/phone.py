"""Start, find and stop virtual phones."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.devices.adb.server import free_port
from harness.errors import MissingPrerequisiteError, UsageError
from harness.virtual_phone.base_image import base_image, virtual_phone_folder
from harness.virtual_phone.cable import PORT_FILE
from harness.virtual_phone.controls import KEYS_FILE, PhoneControls, PhoneFaults
from harness.virtual_phone.processes import PID_FILE, PhoneProcesses
from harness.virtual_phone.recording import DEFAULT_RECORDING, dress, load_recording

START_TIMEOUT_S = 20.0
_HERE = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_PORTS = range(6100, 9000)
"""Away from 5555 to 5585, where the adb server takes every listener for an emulator."""
_POLL_S = 0.03
_one_start_at_a_time = threading.Lock()
"""Held from choosing a port until adbd listens there; otherwise two threads choose the same port."""
_LAUNCHER_END_S = 5.0
_STATE_FILE = "phone.json"


class VirtualPhone:
    """One phone, found by its name from any process."""

    def __init__(self, name: str, launcher: subprocess.Popen[bytes] | None = None) -> None:
        """`launcher` is the process that started the phone, if this process did."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"Invalid phone name {name!r}.", "Use letters, digits, - and _.")
        self.name = name
        self.folder = virtual_phone_folder() / "phones" / name
        self.processes = PhoneProcesses(name, self.folder)
        self.controls = PhoneControls(self.processes)
        self.faults = PhoneFaults(self.processes)
        self._launcher = launcher

    @classmethod
    def start(
        cls,
        name: str,
        *,
        like: str = DEFAULT_RECORDING,
        port: int | None = None,
        vendor: Path | None = None,
        broken_gpu: bool = False,
        data_size: str = "512m",
        authorize: bool = False,
        authorized_keys: Path | None = None,
        cable: bool = False,
        cores: str | None = None,
        shell_user: bool = False,
        owned: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> VirtualPhone:
        """Start a phone and wait until its adbd listens.

        `vendor` is the unpacked folder of the official tools. `authorize` makes adbd ask for a key; it trusts those in
        `authorized_keys`. `cores` pins the phone to cores of this computer (taskset's list). `shell_user` runs adbd as
        uid 2000 (root only). An `owned` phone ends with this process, even on SIGKILL.
        Raises `MissingPrerequisiteError` if this computer cannot run a phone, `UsageError` for a bad or taken name.
        """
        phone = cls(name)
        recording = load_recording(like)
        base = base_image(report)
        with _claim(phone), _one_start_at_a_time:
            _clear(phone.folder)
            dress(recording, phone.folder, phone_name=name)
            for part in ("log", "merged", "upper", "work"):
                (phone.folder / part).mkdir()
            if authorized_keys:
                shutil.copyfile(authorized_keys, phone.folder / KEYS_FILE)
            port = port or _choose_port()
            state = {"name": name, "like": recording.name, "port": port, "cable": cable}
            (phone.folder / _STATE_FILE).write_text(json.dumps(state))
            environment = {
                "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "BASE": str(base),
                "VENDOR": str(vendor.resolve()) if vendor else "",
                "DATA_SIZE": data_size,
                "PORT": str(port),
                "ADBD": "/usr/sbin/adbd-auth" if authorize else "/usr/sbin/adbd",
                "SHIM": "/usr/lib/properties.so",
                "BROKEN_GPU": "1" if broken_gpu else "",
                "SHELL_USER": "1" if shell_user else "",
                "OWNED": "1" if owned else "",
            }
            launcher = _launch(phone.folder, environment, cores, owned)
            phone = cls(name, launcher)
            try:
                _wait_until_listening(phone, launcher)
                if cable:
                    _attach_cable(phone.folder, port)
            except BaseException:
                phone.stop()
                raise
        return phone

    @property
    def running(self) -> bool:
        """Return True if the phone's namespaces exist."""
        return self.processes.outer_pid() is not None

    @property
    def port(self) -> int:
        """Where the adb server connects: the cable's port if there is a cable, else adbd's."""
        cable_port = self.folder / PORT_FILE
        if cable_port.exists():
            return int(cable_port.read_text())
        return int(self._state()["port"])

    @property
    def serial(self) -> str:
        """The ADB serial."""
        return f"127.0.0.1:{self.port}"

    @property
    def like(self) -> str:
        """The recording's name."""
        return str(self._state()["like"])

    def stop(self) -> None:
        """Stop the phone and remove its files; do nothing if it is stopped."""
        pid = self.processes.outer_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _wait_for(lambda: not self.running, "the phone to stop")
        if self._launcher:
            with suppress(subprocess.TimeoutExpired):  # a phone that had not begun ends with its owner
                self._launcher.communicate(timeout=_LAUNCHER_END_S)  # closes the pipe that keeps an owned phone
        (self.folder / PID_FILE).unlink(missing_ok=True)  # the cable's process ends when this file is gone
        _clear(self.folder)

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.folder / _STATE_FILE).read_text())
        except FileNotFoundError:
            raise UsageError(f"There is no virtual phone {self.name!r}.", "Run `harness phone list`.") from None
        return state


def running_phones() -> list[VirtualPhone]:
    """Return the running phones of this computer and cache folder."""
    folder = virtual_phone_folder() / "phones"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [phone for phone in map(VirtualPhone, names) if phone.running]


@contextmanager
def virtual_phone(name: str, **options: object) -> Iterator[VirtualPhone]:
    """Run a phone for the length of a `with` block. Options are those of `VirtualPhone.start`."""
    phone = VirtualPhone.start(name, owned=True, **options)  # type: ignore[arg-type]
    try:
        yield phone
    finally:
        phone.stop()


def _launch(folder: Path, environment: dict[str, str], cores: str | None, owned: bool) -> subprocess.Popen[bytes]:
    namespaces = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]
    if os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user"]
    pin = ["taskset", "-c", cores] if cores else []
    launch = ["sh", str(_HERE / "launch.sh"), str(folder / PID_FILE), *namespaces]
    confine = ["sh", str(_HERE / "confine.sh"), str(folder)]
    with (folder / "log/init.log").open("wb") as log:
        return subprocess.Popen(
            [*pin, *launch, *confine],
            env=environment,
            stdin=subprocess.PIPE if owned else subprocess.DEVNULL,  # the pipe stays open while this process lives
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_listening(phone: VirtualPhone, launcher: subprocess.Popen[bytes]) -> None:
    log = phone.folder / "log/adbd.log"
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (log.exists() and "adbd started" in log.read_text(errors="replace")):
        if launcher.poll() is not None or time.monotonic() > deadline:
            lines = (phone.folder / "log/init.log").read_text(errors="replace").strip().splitlines()
            raise MissingPrerequisiteError(
                f"Cannot start the virtual phone {phone.name}: {lines[-1] if lines else 'it printed no reason'}.",
                "It needs Linux with user namespaces and overlayfs; run `harness doctor` to see what is missing.",
            )
        time.sleep(_POLL_S)


def _attach_cable(folder: Path, port: int) -> None:
    subprocess.Popen(
        [sys.executable, "-m", "harness.virtual_phone.cable", str(port), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait_for((folder / PORT_FILE).exists, "the cable")


@contextmanager
def _claim(phone: VirtualPhone) -> Iterator[None]:
    """Hold a phone's name while the phone starts. Raises `UsageError` if it is taken."""
    phone.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(phone.folder.with_suffix(".lock"), timeout=START_TIMEOUT_S):
            if phone.running:
                raise UsageError(
                    f"A virtual phone {phone.name!r} is running already.", f"Run `harness phone stop {phone.name}`."
                )
            yield
    except Timeout:
        raise UsageError(f"Another process is starting the virtual phone {phone.name!r}.", "Wait a moment.") from None


def _choose_port() -> int:
    first = os.getpid() * 37 % len(_PORTS)  # elsewhere per process: two that start phones at once must not collide
    port = free_port([*_PORTS[first:], *_PORTS[:first]])
    if port is None:
        raise MissingPrerequisiteError("No port is free for a virtual phone.", "Run `harness phone stop --all`.")
    return port


def _clear(folder: Path) -> None:
    """Remove a stopped phone's files; overlayfs leaves a work folder without permissions."""
    for work in folder.glob("work/work"):
        work.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            message = f"Timed out after {START_TIMEOUT_S:.0f} s waiting for {what}."
            raise MissingPrerequisiteError(message, "Run `harness phone list`.")
        time.sleep(_POLL_S)
