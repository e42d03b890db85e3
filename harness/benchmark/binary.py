"""What an ELF file says about itself: for which ABI and which system it was built."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

_HEADER = struct.Struct("<4sBB10xHH")
_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
_ANDROID_LOADERS = (b"/system/bin/linker64\0", b"/system/bin/linker\0", b"/system/bin/linker_asan64\0")
_ANDROID_NOTE = b"Android\0"


@dataclass(frozen=True)
class Binary:
    """An executable: Android's name of its ABI, and where it runs."""

    abi: str
    android: bool


def read_binary(path: Path) -> Binary:
    """Read a tool's ELF header (ELF specification 1.2). Raises `UsageError` for anything else than an executable."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name a benchmark_model file.") from error
    if not data:
        raise UsageError(f"{path} is empty.", "Download it again.")
    if len(data) < _HEADER.size or data[:4] != b"\x7fELF":
        raise UsageError(
            f"{path} is not an executable for Android or Linux (no ELF header).",
            "Name the benchmark_model binary itself, not an APK, script or web page.",
        )
    machine = _HEADER.unpack_from(data)[4]
    if machine not in _MACHINES:
        raise UsageError(f"{path} was built for a processor that harness does not know (ELF machine {machine}).")
    head = data[:65536]
    return Binary(
        abi=_MACHINES[machine],
        android=any(loader in head for loader in _ANDROID_LOADERS) or _ANDROID_NOTE in head,
    )
