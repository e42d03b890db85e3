"""One process at a time measures a device: a lease by serial, which ends with its process, however that ends."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import DeviceError, Failure, FailureClass


@contextmanager
def lease(serial: str, *, folder: Path | None = None) -> Iterator[None]:
    """Hold a device for the length of a `with` block. Raises `DeviceError` that names the holder."""
    folder = folder or Path(tempfile.gettempdir()) / "harness-leases"
    folder.mkdir(parents=True, exist_ok=True, mode=0o777)
    readable = re.sub(r"[^A-Za-z0-9.-]", "_", serial)[:60]
    name = f"{readable}-{hashlib.sha256(serial.encode()).hexdigest()[:8]}"
    holder = folder / f"{name}.pid"
    try:
        with FileLock(folder / f"{name}.lock", timeout=0, mode=0o666):
            holder.write_text(str(os.getpid()))
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except Timeout:
        pid = holder.read_text() if holder.exists() else "unknown"
        raise DeviceError(
            Failure(
                FailureClass.DEVICE_OFFLINE,
                f"{serial} is in use by another harness (process {pid}).",
                f"lease {folder / name}.lock",
            )
        ) from None
