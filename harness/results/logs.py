"""Raw logs, kept compressed in a sweep's folder under names that say what each is."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from urllib.parse import quote

from harness.errors import HarnessError
from harness.results.records import Cell

_LONGEST_NAME = 60
"""Characters of one name from outside, so that a file name stays under 255 bytes."""


def log_path(sweep_id: str, cell: Cell, purpose: str, index: int, attempt: int) -> Path:
    """Return a log's path inside the results folder.

    Such as `20261124-083000-ab12/logs/R58M/int8--gpu--t1--4f0c2d1e9a8b7c6d--latency-003-1.log.gz`: serial, variant,
    delegate, threads, cell key, pass, index and attempt.
    """
    name = f"{safe_name(cell.variant_name)}--{safe_name(cell.delegate)}--t{cell.threads}--{cell.key}"
    return (
        Path(sweep_folder(sweep_id))
        / "logs"
        / safe_name(cell.serial)
        / f"{name}--{purpose}-{index:03}-{attempt}.log.gz"
    )


def sweep_folder(sweep_id: str) -> str:
    """Return the name of a sweep's folder inside the results folder."""
    return safe_name(sweep_id)


def safe_name(text: str) -> str:
    """Quote a name from outside so that it can neither leave the folder nor upset a file system."""
    return quote(text, safe="", errors="replace").replace(".", "%2E", 1 if text.startswith(".") else 0)[:_LONGEST_NAME]


def write_log(path: Path, text: str) -> None:
    """Write a log so that a reader sees all of it or nothing, also after a power cut. Raises `HarnessError`."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(gzip.compress(text.encode("utf-8", "replace"), mtime=0))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise HarnessError(
            f"The log {path} could not be written: {error.strerror}.",
            "Free space or check permissions, then start the same sweep with --resume; what was stored before is kept.",
        ) from error


def read_log(path: Path) -> str:
    """Return the text of a kept log. Raises `HarnessError` where it is missing or damaged."""
    try:
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise HarnessError(f"The log {path} cannot be read: {error}.") from error
