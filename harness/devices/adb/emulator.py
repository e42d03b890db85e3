"""One running emulator: started, waited for until Android has booted, found again by its name, stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from harness.devices.adb.discovery import identities
from harness.devices.adb.server import adb_client, free_port
from harness.errors import HarnessError, MissingPrerequisiteError, UsageError
from harness.paths import cache_folder

BOOT_TIMEOUT_S = 300.0
"""A cold boot without hardware acceleration takes minutes."""
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.5
_STATE_FILE = "emulator.json"
_LOG_FILE = "emulator.log"
_PORTS = range(5554, 5683, 2)
"""Of the console; adbd is reached at the port after it. The emulator allows no others."""
_OPTIONS = ("-no-window", "-no-audio", "-no-boot-anim", "-no-snapshot")
"""Nothing to draw, and every start the same: a snapshot would bring back what an earlier session left running."""


@dataclass(frozen=True)
class Emulator:
    """A started emulator. `pid` and `started_at` (seconds since 1970) name its process, also after pids were reused."""

    name: str
    serial: str
    pid: int
    started_at: float

    @property
    def running(self) -> bool:
        """Return True if its process still lives."""
        return _process(self) is not None


def start_emulator(
    name: str, *, timeout_s: float = BOOT_TIMEOUT_S, report: Callable[[str], None] = lambda _: None
) -> Emulator:
    """Start the SDK's virtual device `name` and wait until Android has booted on it.

    Raises `UsageError` if it is unknown or already running, and `MissingPrerequisiteError` if there is no SDK or the
    device does not boot; then nothing is left running.
    """
    program = emulator_program()
    require_avd(program, name)
    adb_client()  # the emulator reports to the adb server, and to no other than that of its environment
    folder = _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(_emulators_folder() / "start.lock"):  # two starts at once would choose one port
        if (found := _stored(folder)) and found.running:
            raise UsageError(f"The emulator {name!r} runs already, as {found.serial}.", f"Use --device {found.serial}.")
        emulator = _launch(program, name, folder)
    report(f"Starting the emulator {name} as {emulator.serial}; its log: {folder / _LOG_FILE}")
    try:
        _await_boot(emulator, folder, timeout_s)
    except BaseException:
        stop_emulator(emulator)
        raise
    return emulator


def running_emulators() -> list[Emulator]:
    """Return the emulators that harness started and that still run."""
    folders = sorted(_emulators_folder().glob(f"*/{_STATE_FILE}"))
    return [found for path in folders if (found := _stored(path.parent)) and found.running]


def stop_emulator(emulator: Emulator) -> None:
    """End an emulator and whatever it started; one that does not end by itself is killed."""
    process = _process(emulator)
    family = [process, *process.children(recursive=True)] if process else []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    (_folder(emulator.name) / _STATE_FILE).unlink(missing_ok=True)


def _launch(program: Path, name: str, folder: Path) -> Emulator:
    port = free_port(_PORTS, count=2)  # the console's, and adbd's after it
    if port is None:
        raise HarnessError("All 65 ports of emulators are taken.", "Stop one: `harness phone list`.")
    with (folder / _LOG_FILE).open("wb") as log:
        process = subprocess.Popen(
            [program, "-avd", name, "-port", str(port), *_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    emulator = Emulator(name, f"emulator-{port}", process.pid, psutil.Process(process.pid).create_time())
    (folder / _STATE_FILE).write_text(json.dumps(asdict(emulator)), encoding="utf-8")
    return emulator


def _await_boot(emulator: Emulator, folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while emulator.serial not in identities([emulator.serial]):
        log = (folder / _LOG_FILE).read_text(encoding="utf-8", errors="replace")
        if not emulator.running:
            raise MissingPrerequisiteError(
                f"{emulator.name} ended before Android had booted: {parse_cause(log) or 'it said nothing'}",
                f"Its log is {folder / _LOG_FILE}.",
            )
        if time.monotonic() >= deadline:
            raise MissingPrerequisiteError(
                f"Android did not boot on the emulator {emulator.name} within {timeout_s:.0f} s.",
                f"Its log is {folder / _LOG_FILE}; give it longer with --boot-timeout.",
            )
        time.sleep(_POLL_S)


def _process(emulator: Emulator) -> psutil.Process | None:
    try:
        process = psutil.Process(emulator.pid)
        is_it = process.create_time() == emulator.started_at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if is_it else None


def _stored(folder: Path) -> Emulator | None:
    try:
        return Emulator(**json.loads((folder / _STATE_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):  # cut short by a full disk or a kill: as good as none
        return None


def _emulators_folder() -> Path:
    return cache_folder() / "emulators"


def _folder(name: str) -> Path:
    return _emulators_folder() / name


LIST_TIMEOUT_S = 60.0
"""The program looks for a newer version of itself before it answers."""
_SDK_VARIABLES = ("ANDROID_HOME", "ANDROID_SDK_ROOT")
_SDK_FOLDERS = ("Android/Sdk", "Library/Android/sdk")
"""Where Android Studio puts the SDK, in the user's home."""
_AVD_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What avdmanager allows in a name; a message of the program holds a blank."""
_ERROR = re.compile(r"^(?:emulator: )?(?:PANIC|ERROR|FATAL)\s*[:|]\s*(?P<text>\S.*)")


def emulator_program() -> Path:
    """Return the SDK's emulator, by its variables, the PATH or its usual folders. Raises `MissingPrerequisiteError`."""
    named = [Path(os.environ[name]) for name in _SDK_VARIABLES if os.environ.get(name)]
    usual = [Path.home() / folder for folder in _SDK_FOLDERS]
    on_path = shutil.which("emulator")
    places = [
        *(sdk / "emulator/emulator" for sdk in named),
        *([Path(on_path)] if on_path else []),
        *(sdk / "emulator/emulator" for sdk in usual),
    ]
    for place in places:
        if os.access(place, os.X_OK) and place.is_file():
            return place
    raise MissingPrerequisiteError(
        "The emulator of the Android SDK was not found.",
        "Install it (`sdkmanager emulator`) and set ANDROID_HOME to the SDK's folder; without it, "
        "`harness phone start` starts a virtual phone.",
    )


def parse_avd_names(text: str) -> list[str]:
    """Return the virtual devices that `emulator -list-avds` names; since version 34 messages stand between them."""
    return [line.strip() for line in text.splitlines() if _AVD_NAME.fullmatch(line.strip())]


def require_avd(program: Path, name: str) -> None:
    """Raise `UsageError` if the SDK has no such virtual device, `MissingPrerequisiteError` if it cannot be asked."""
    known = _avd_names(program)
    if name not in known:
        raise UsageError(
            f"The Android SDK has no virtual device {name!r}.",
            f"It has: {', '.join(known)}." if known else "Make one: `avdmanager create avd`.",
        )


def _avd_names(program: Path) -> list[str]:
    try:
        finished = subprocess.run(
            [program, "-list-avds"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIST_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingPrerequisiteError(
            f"{program} did not list its virtual devices within {LIST_TIMEOUT_S:.0f} s.",
            "Run it by hand with -list-avds and read what it says.",
        ) from error
    except OSError as error:
        raise MissingPrerequisiteError(f"{program} cannot be started: {error.strerror}.", "Reinstall it.") from error
    return parse_avd_names(finished.stdout)


def parse_cause(log: str) -> str:
    """Return the first error in an emulator's log, without its prefix: what follows is its consequence.

    Without one it is the last line, and empty for an empty log.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [match["text"] for line in lines if (match := _ERROR.match(line))]
    return (errors or lines[-1:] or [""])[0]
