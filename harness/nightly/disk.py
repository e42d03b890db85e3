"""Whether there is room for a night."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from harness.errors import NothingToRunOnError

GIGABYTE = 1e9


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def require_space(folder: Path, least_gb: float, *, free_bytes: Callable[[Path], int] = _free_bytes) -> None:
    """Raise `NothingToRunOnError` where a folder's disk has less room than a night may need."""
    free_gb = free_bytes(folder) / GIGABYTE
    if free_gb < least_gb:
        raise NothingToRunOnError(
            f"Only {free_gb:.1f} GB are free where {folder} lies; a night asks for {least_gb:g} GB.",
            "Free space, or ask for less with --least-free-gb.",
        )
