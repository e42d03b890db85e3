"""Hash files, write them atomically, and decode saved output."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from harness.errors import Failure, FailureClass, UsageError


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's contents as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that readers see it whole or not at all, even if this process is killed."""
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


_SCRATCH = "harness-scratch-"
_NEW_S = 5.0
"""A younger folder may not be locked yet."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder for a `with` block, after removing those whose process was killed."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _NEW_S:
                with _locked(left):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder, _locked(Path(folder)):
        yield Path(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder as this process's; the kernel lets go of it however that ends. Raises `OSError` if it is held."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says if a disk, or a user's share of it, is full."""


def failure_of_host(error: OSError) -> Failure:
    """Return the failure of a file of this host that cannot be read or written."""
    is_full = error.errno in FULL
    return Failure(FailureClass.STORAGE_FULL if is_full else FailureClass.INTERNAL, f"This host: {error}.")


def decode_saved(data: bytes) -> str:
    """Decode saved output: UTF-16 with byte-order mark (PowerShell), else UTF-8 with what is not valid replaced."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return data.decode(encoding, errors="replace").replace("\r\n", "\n")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises `UsageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make folder {folder}: {error.strerror}.", "Choose another.") from error
