"""A registered binary of a benchmark program."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import UsageError


class ToolFamily(StrEnum):
    """The families of the programs that come with harness; further programs name their own."""

    INTERPRETER = "interpreter"
    """TFLite's `benchmark_model`: CPU, GPU and NNAPI delegates, real inputs and outputs."""
    COMPILED_MODEL = "compiled-model"
    """LiteRT's `benchmark_model` over CompiledModel: CPU, GPU, NPU; no inputs, no outputs."""
    LITERT_PYTHON = "litert-python"
    """`ai_edge_litert.tools.benchmark_litert_model` on this host, where no binary is registered."""


class ToolSystem(StrEnum):
    """Where a binary runs."""

    ANDROID = "android"
    LINUX = "linux"
    VIRTUAL_PHONE = "virtual-phone"
    """A Linux build whose loader and libraries are the virtual phone's vendor partition."""


class Tool(BaseModel):
    """A registered tool, identified by the SHA-256 of its binary."""

    model_config = ConfigDict(frozen=True)

    name: str
    family: str
    """One of the families of a `BenchmarkProgram`."""
    system: ToolSystem
    abi: str
    """Android's name of the ABI: `arm64-v8a`, `armeabi-v7a`, `x86_64`, `x86`; for Linux too."""
    sha256: str
    path: Path
    """The file to push, or to run on this host."""
    launcher: tuple[str, ...] = ()
    """What stands before the tool's own arguments when it runs on this host; empty: `path` itself."""
    vendor_folder: Path | None = None
    """What a virtual phone mounts as its vendor partition for this tool."""
    origin: str
    """The address or path that it came from."""
    flags: frozenset[str] | None = None
    """Flags that `--help` of this binary lists; None before it was probed."""


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
    """Read a tool's ELF header (ELF specification 1.2). Raises `UsageError` for anything but an executable."""
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
