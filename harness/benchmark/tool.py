"""One `benchmark_model` binary as data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ToolFamily(StrEnum):
    """The programs that share the name: their flags and their evidence differ."""

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
    family: ToolFamily
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
