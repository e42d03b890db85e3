"""One night at a time in a results folder; the lock ends with its process, however that ends."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import NothingToRunOnError, UsageError

_LOCK_NAME = "nightly.lock"
_HOLDER_NAME = "nightly.holder.json"


@contextmanager
def night_lock(results: Path) -> Iterator[None]:
    """Hold the night of a results folder for a `with` block.

    Raises `NothingToRunOnError` that names who holds it, and `UsageError` where the folder cannot be written.
    """
    holder = results / _HOLDER_NAME
    lock = FileLock(results / _LOCK_NAME, timeout=0)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise NothingToRunOnError(
            f"Another night is running in {results}: {_told(holder)}.",
            "Wait until it ends, stop that process, or give this night a folder of its own with --results.",
        ) from None
    except OSError as error:
        raise UsageError(
            f"The results folder {results} cannot be written: {error.strerror}.", "Choose another with --results."
        ) from error
    try:
        with suppress(OSError):  # a full disk: whether there is room is somebody else's question
            started = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            holder.write_text(json.dumps({"process": os.getpid(), "host": platform.node(), "started": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        known = json.loads(holder.read_text())
        return f"process {known['process']} on {known['host']} since {known['started']}"
    except (OSError, ValueError, KeyError):  # between taking the lock and writing the file
        return "a process that has not told its name yet"
