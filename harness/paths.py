"""Where harness finds what it ships and keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

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


def default_results() -> str:
    """Return where results are kept: `$HARNESS_RESULTS` (a folder or a database's URL), or the folder `results`."""
    return os.environ.get("HARNESS_RESULTS", "results")
