"""Hash files, write them atomically, and decode saved output."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import uuid4


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


def decode_saved(data: bytes) -> str:
    """Decode saved output: UTF-16 with byte-order mark (PowerShell), else UTF-8 with what is not valid replaced."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return data.decode(encoding, errors="replace").replace("\r\n", "\n")
