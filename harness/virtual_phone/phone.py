"""A virtual phone: started, dressed, changed while it runs, broken on demand, stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import MissingPrerequisiteError, UsageError
from harness.virtual_phone import cable as cable_process
from harness.virtual_phone.base_image import base_image, virtual_phone_folder
from harness.virtual_phone.recording import (
    dress,
    load_recording,
    set_battery,
    set_screen,
    set_thermal_status,
    set_zone_temperature,
)

DEFAULT_RECORDING = "pixel-8"
START_TIMEOUT_S = 20.0
_HERE = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
_FIRST_PORT, _LAST_PORT = 6100, 9000
"""Away from 5555 to 5585, where the adb server takes what listens for an emulator."""
_POLL_S = 0.03
_one_start_at_a_time = threading.Lock()
"""From choosing a port until adbd listens there, so that two threads do not choose the same."""
_LAUNCHER_END_S = 5.0
_STATE_FILE = "phone.json"
_KEYS_FILE, _REVOKED_KEYS_FILE = "adb_keys", "adb_keys.revoked"


class VirtualPhone:
    """One running phone, found again by its name from any process."""

    def __init__(self, name: str) -> None:
        _check_name(name)
        self.name = name
        self.folder = virtual_phone_folder() / "phones" / name
        self._launcher: subprocess.Popen[bytes] | None = None
        """The process that started the phone, where this object did."""

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

        `vendor` is the unpacked folder of the official tools; `authorize` makes adbd ask for a key, of which it trusts
        those in `authorized_keys`; `cores` pins it to cores of this machine (taskset's list); `shell_user` runs adbd as
        uid 2000 (root only); an `owned` phone ends with this process, however that ends.
        Raises `MissingPrerequisiteError` where a phone cannot run, `UsageError` for a bad or taken name.
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
                shutil.copyfile(authorized_keys, phone.folder / _KEYS_FILE)
            port = port or _free_port()
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
            phone._launch(environment, cores, owned)
            try:
                phone._wait_until_listening()
                if cable:
                    phone._plug_cable(port)
            except BaseException:
                phone.stop()
                raise
        return phone

    @property
    def running(self) -> bool:
        """Whether the phone's namespaces exist."""
        return self._outer_pid() is not None

    @property
    def port(self) -> int:
        """Where the adb server connects: the cable's port where there is one, else adbd's."""
        cable_port = self.folder / cable_process.PORT_FILE
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
        """Stop the phone and forget its files; a stopped one is fine."""
        pid = self._outer_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _wait_for(lambda: self._outer_pid() is None, "the phone to stop")
        if self._launcher:
            with suppress(subprocess.TimeoutExpired):  # one that had not begun ends with its owner
                self._launcher.communicate(timeout=_LAUNCHER_END_S)  # closes the pipe at which it waits
        (self.folder / cable_process.PHONE_PID_FILE).unlink(missing_ok=True)  # the cable ends with it
        _clear(self.folder)

    # -- what it looks like, changed while it runs --

    def set_battery(self, **fields: object) -> None:
        """Change fields of `dumpsys battery`, such as `level=12`."""
        set_battery(self._running_folder(), **fields)

    def set_thermal_status(self, status: int, degrees_c: float = 31.4) -> None:
        """Set Android's thermal status (0 to 6) and skin temperature."""
        set_thermal_status(self._running_folder(), status, degrees_c)

    def set_zone_temperature(self, zone: int, degrees_c: float) -> None:
        """Set the temperature of one thermal zone."""
        set_zone_temperature(self._running_folder(), zone, degrees_c)

    def set_core_frequency(self, core: int, khz: int) -> None:
        """Set a core's current frequency."""
        self._set_clock(core, "scaling_cur_freq", khz)

    def set_core_ceiling(self, core: int, khz: int) -> None:
        """Set how fast a core may run now, which a kernel lowers when it throttles."""
        self._set_clock(core, "scaling_max_freq", khz)

    def _set_clock(self, core: int, name: str, khz: int) -> None:
        file = self._running_folder() / f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{khz}\n")

    def clock(self, core: int, name: str) -> str:
        """Return what a file of a core's `cpufreq` folder holds, such as `scaling_governor`."""
        return (self._running_folder() / f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}").read_text().strip()

    @property
    def fixed_performance(self) -> bool:
        """Whether fixed-performance mode is on: what Android itself does not tell."""
        file = self._running_folder() / "state/fixed-performance"
        return file.exists() and file.read_text().strip() == "true"

    def set_screen(self, *, on: bool) -> None:
        """Switch the screen, as the power key does."""
        set_screen(self._running_folder(), on=on)

    def setting(self, namespace: str, key: str) -> str | None:
        """Return an Android setting, None where it is not set."""
        file = self._inside(f"data/settings/{namespace}.{key}")
        return file.read_text().strip() if file.exists() else None

    def set_property(self, key: str, value: str) -> None:
        """Set a property, as `setprop` does."""
        with (self._inside("data/property/runtime.prop")).open("a") as file:
            file.write(f"{key}={value}\n")

    def set_setting(self, namespace: str, key: str, value: str) -> None:
        """Set an Android setting, as `settings put` does."""
        self._inside(f"data/settings/{namespace}.{key}").write_text(value + "\n")

    # -- faults --

    def crash_adbd(self) -> None:
        """Kill adbd; the phone's init starts it again after a second."""
        os.kill(self._adbd_pid(), signal.SIGKILL)

    def hang(self) -> None:
        """Stop adbd: connections stay, nothing answers."""
        os.kill(self._adbd_pid(), signal.SIGSTOP)

    def unhang(self) -> None:
        """Let a hung adbd go on."""
        os.kill(self._adbd_pid(), signal.SIGCONT)

    def switch_off(self) -> None:
        """Take adbd away until `switch_on`."""
        self._end_adbd_with("off")

    def switch_on(self) -> None:
        """Bring it back."""
        self._inside("run/off").unlink(missing_ok=True)

    def reboot(self, seconds: float = 2) -> None:
        """Kill everything, lose what `setprop` set, be back after `seconds`."""
        self._end_adbd_with(f"reboot {seconds}")

    def revoke_keys(self) -> None:
        """Trust no computer any more, and end what is connected. Raises `UsageError` for a phone without keys."""
        shutil.copyfile(self._keys(), self.folder / _REVOKED_KEYS_FILE)
        self._keys().write_text("")  # in place: it is mounted inside
        self.crash_adbd()

    def accept_keys(self) -> None:
        """Undo `revoke_keys`, as one who accepts the phone's question does."""
        with suppress(FileNotFoundError):  # nothing was revoked
            shutil.copyfile(self.folder / _REVOKED_KEYS_FILE, self._keys())
        self.crash_adbd()

    def _keys(self) -> Path:
        keys = self._running_folder() / _KEYS_FILE
        if not keys.exists():
            raise UsageError(f"The phone {self.name} asks for no key.", "Start it with --auth and --keys.")
        return keys

    def fill_storage(self, leave_bytes: int = 0) -> None:
        """Fill /data but for `leave_bytes`."""
        data = self._inside("data")
        free = os.statvfs(data)
        size = free.f_bavail * free.f_frsize - leave_bytes
        with (data / "filler").open("wb") as file:
            if size > 0:
                os.posix_fallocate(file.fileno(), 0, size)

    def free_storage(self) -> None:
        """Undo `fill_storage`."""
        self._inside("data/filler").unlink(missing_ok=True)

    def slow_cable(self, bytes_per_s: float | None) -> None:
        """Limit the cable's rate; None lifts the limit."""
        self._tell_cable(f"slow {bytes_per_s or 0:g}")

    def stop_cable(self) -> None:
        """Let nothing through the cable, silently."""
        self._tell_cable("stop")

    def go_cable(self) -> None:
        """Let everything through again."""
        self._tell_cable("go")

    def cut_cable(self) -> None:
        """Unplug the cable until `plug_cable`."""
        self._tell_cable("cut")

    def plug_cable(self) -> None:
        """Plug the cable in again."""
        self._tell_cable("plug")

    # -- inside --

    def _launch(self, environment: dict[str, str], cores: str | None, owned: bool) -> None:
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]
        if os.geteuid() != 0:
            namespaces += ["--user", "--map-root-user"]
        pin = ["taskset", "-c", cores] if cores else []
        with (self.folder / "log/init.log").open("wb") as log:
            # The owner's end of the pipe stays open as long as this object's process lives.
            self._launcher = subprocess.Popen(
                [
                    *pin,
                    "sh",
                    str(_HERE / "launch.sh"),
                    str(self.folder / "pid"),
                    *namespaces,
                    "sh",
                    str(_HERE / "confine.sh"),
                    str(self.folder),
                ],
                env=environment,
                stdin=subprocess.PIPE if owned else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_listening(self) -> None:
        log = self.folder / "log/adbd.log"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (log.exists() and "adbd started" in log.read_text(errors="replace")):
            has_ended = self._launcher is not None and self._launcher.poll() is not None
            if has_ended or time.monotonic() > deadline:
                said = (self.folder / "log/init.log").read_text(errors="replace").strip().splitlines()
                raise MissingPrerequisiteError(
                    f"The virtual phone {self.name} did not start: {said[-1] if said else 'no reason given'}.",
                    "It needs Linux with user namespaces and overlayfs; `harness doctor` tells what is missing.",
                )
            time.sleep(_POLL_S)

    def _plug_cable(self, port: int) -> None:
        subprocess.Popen(
            [sys.executable, "-m", "harness.virtual_phone.cable", str(port), str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _wait_for((self.folder / cable_process.PORT_FILE).exists, "the cable")

    def _tell_cable(self, command: str) -> None:
        control = self.folder / cable_process.CONTROL_PIPE
        if not control.exists():
            raise UsageError(f"The phone {self.name} has no cable.", "Start it with --cable.")
        control.write_text(command + "\n")

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.folder / _STATE_FILE).read_text())
        except FileNotFoundError:
            raise UsageError(f"No virtual phone {self.name!r} is there.", "Run `harness phone list`.") from None
        return state

    def _outer_pid(self) -> int | None:
        """Return the process that holds the namespaces open, as long as it lives."""
        try:
            pid = int((self.folder / "pid").read_text())
            status = Path(f"/proc/{pid}/stat").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):  # it may end between any two of these
            return None
        is_zombie = status.rpartition(")")[2].split()[0] == "Z"
        return None if is_zombie or b"unshare" not in command else pid

    def init_pid(self) -> int:
        """Return the process that all others of the phone descend from, seen from here. Raises `UsageError`."""
        pid = self._outer_pid()
        children = _children(pid) if pid else []
        if not children:
            raise UsageError(f"The virtual phone {self.name!r} is not running.", "Run `harness phone list`.")
        return children[0]

    def _end_adbd_with(self, command: str) -> None:
        """Leave a command for init and end adbd; without an adbd nothing is left that a later fault would carry out."""
        pid = self._adbd_pid()
        self._inside("run/control").write_text(command + "\n")
        os.kill(pid, signal.SIGKILL)

    def _running_folder(self) -> Path:
        """Return the phone's own folder. Raises `UsageError` when it does not run."""
        self.init_pid()
        return self.folder

    def _adbd_pid(self) -> int:
        for pid in _children(self.init_pid()):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().startswith("adbd"):
                    return pid
        raise UsageError(f"adbd is not running on {self.name}.", "Switch the phone on, or wait a second.")

    def _inside(self, path: str) -> Path:
        """Return a path of the phone's own file tree as this machine sees it."""
        return Path(f"/proc/{self.init_pid()}/root") / path


def running_phones() -> list[VirtualPhone]:
    """Return the phones of this machine and cache folder that run."""
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


@contextmanager
def _claim(phone: VirtualPhone) -> Iterator[None]:
    """Hold a phone's name while it starts; a running phone keeps it."""
    phone.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(phone.folder.with_suffix(".lock"), timeout=START_TIMEOUT_S):
            if phone.running:
                raise UsageError(
                    f"A virtual phone {phone.name!r} runs already.", f"Stop it: `harness phone stop {phone.name}`."
                )
            yield
    except Timeout:
        raise UsageError(f"The virtual phone {phone.name!r} is being started elsewhere.", "Wait a moment.") from None


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a phone.", "Use letters, digits, - and _.")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # a process may end while it is looked at
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _free_port() -> int:
    """Return a loopback port that nothing listens on now.

    Processes begin at different places of the range, so that two which start phones at once do not take the same port.
    """
    size = _LAST_PORT - _FIRST_PORT
    for step in range(size):
        port = _FIRST_PORT + (os.getpid() * 37 + step) % size
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise MissingPrerequisiteError("No free port for a virtual phone.", "Stop some: `harness phone stop --all`.")


def _clear(folder: Path) -> None:
    """Remove a stopped phone's files; overlayfs leaves a work folder without permissions."""
    for work in folder.glob("work/work"):
        work.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise MissingPrerequisiteError(
                f"Waited {START_TIMEOUT_S:.0f} s for {what} in vain.", "Run `harness phone list`."
            )
        time.sleep(_POLL_S)
