"""The Android SDK's emulator program: where it is, which virtual devices it knows, what it says when it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import NothingToRunOnError, UsageError

LIST_TIMEOUT_S = 60.0
"""The program looks for a newer version of itself before it answers."""
_SDK_VARIABLES = ("ANDROID_HOME", "ANDROID_SDK_ROOT")
_SDK_FOLDERS = ("Android/Sdk", "Library/Android/sdk")
"""Where Android Studio puts the SDK, in the user's home."""
_AVD_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What avdmanager allows in a name; a message of the program holds a blank."""
_ERROR = re.compile(r"^(?:emulator: )?(?:PANIC|ERROR|FATAL)\s*[:|]\s*(?P<text>\S.*)")


def emulator_program() -> Path:
    """Return the SDK's emulator, by its variables, the PATH or its usual folders. Raises `NothingToRunOnError`."""
    named = [Path(os.environ[name]) for name in _SDK_VARIABLES if os.environ.get(name)]
    usual = [Path.home() / folder for folder in _SDK_FOLDERS]
    on_path = shutil.which("emulator")
    places = [*(sdk / "emulator/emulator" for sdk in named), *([Path(on_path)] if on_path else []),
              *(sdk / "emulator/emulator" for sdk in usual)]  # fmt: skip
    for place in places:
        if os.access(place, os.X_OK) and place.is_file():
            return place
    raise NothingToRunOnError(
        "The emulator of the Android SDK was not found.",
        "Install it (`sdkmanager emulator`) and set ANDROID_HOME to the SDK's folder; without it, "
        "`harness phone start` starts a virtual phone.",
    )


def parse_avd_names(text: str) -> list[str]:
    """Return the virtual devices that `emulator -list-avds` names; since version 34 messages stand between them."""
    return [line.strip() for line in text.splitlines() if _AVD_NAME.fullmatch(line.strip())]


def require_avd(program: Path, name: str) -> None:
    """Raise `UsageError` unless the SDK knows this virtual device, `NothingToRunOnError` where it cannot be asked."""
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
        raise NothingToRunOnError(
            f"{program} did not list its virtual devices within {LIST_TIMEOUT_S:.0f} s.",
            "Run it by hand with -list-avds and read what it says.",
        ) from error
    except OSError as error:
        raise NothingToRunOnError(f"{program} cannot be started: {error.strerror}.", "Install it anew.") from error
    return parse_avd_names(finished.stdout)


def parse_cause(log: str) -> str:
    """Return the first error in an emulator's log, without its prefix: what follows is its consequence.

    Without one it is the last line, and empty for an empty log.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [match["text"] for line in lines if (match := _ERROR.match(line))]
    return (errors or lines[-1:] or [""])[0]
