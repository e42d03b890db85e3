"""Where harness finds what it ships and keeps what it makes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Return a folder that travels with harness: `models` or `device_profiles`.

    An installed wheel holds it inside the package; a checkout holds it at the top level.
    """
    in_wheel = _PACKAGE / "shipped" / folder
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / folder


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$HARNESS_CACHE`, or the cache folder of the user."""
    import platformdirs

    chosen = os.environ.get("HARNESS_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("harness"))


def require_cache() -> Path:
    """Return the cache folder, made if need be. Raises `UsageError` if nothing can be written there."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"Cannot write to the cache folder {folder}: {error.strerror or error}.",
            "Set HARNESS_CACHE to a folder on a disk with room that you may write to.",
        ) from error
    return folder


def default_results() -> str:
    """Return where results are kept: `$HARNESS_RESULTS` (a folder or a database's URL), or the folder `results`."""
    return os.environ.get("HARNESS_RESULTS", "results")
