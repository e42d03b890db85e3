"""What harness asks of a benchmark program, and how it finds the program that a tool is a build of.

To add a program, write one package next to this file. Its `__init__.py` names the tool families that it serves in
`FAMILIES`, its `program.py` holds a `BenchmarkProgram` named `PROGRAM`. Nothing outside the package changes. A
`program.py` is imported when a tool of its families is first used, so it may import what is slow to load.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import ClassVar, Protocol

from harness.benchmark.invocation import InvocationRequest, Measurement, ProfiledNode
from harness.benchmark.tool import Tool
from harness.devices.device import CommandResult, Device, DeviceKind
from harness.errors import DeviceError, Failure, FailureClass, UsageError


class Feature(StrEnum):
    """What only some programs, builds or delegates can do."""

    OP_PROFILE = "op profile"
    """Print the time of each operator, for `Pass.OP_PROFILE`."""
    RUN_FREQUENCY = "run frequency"
    """Begin runs at the rate of `InvocationRequest.runs_per_s`."""
    CACHE_FOLDER = "cache folder"
    """Let the delegate keep what it compiled in `InvocationRequest.cache_folder`."""
    RAW_TENSORS = "raw tensors"
    """Read `InvocationRequest.inputs` and write `InvocationRequest.output_file`."""
    FULL_DELEGATION = "full delegation"
    """Refuse by itself to run a graph that the delegate takes only in part."""


class BenchmarkProgram(Protocol):
    """One program that runs a model and prints what that took. Stateless, so it may be called from several threads.

    A class that derives from it inherits an answer of "none" for all but `probe`, `arguments` and `judge`.
    """

    name: ClassVar[str]
    """The name of its binary, such as `benchmark_model`."""
    families: ClassVar[tuple[str, ...]]
    """The values of `Tool.family` that it serves. They are stored: never rename one."""
    host_only: ClassVar[bool] = False
    """True if it runs in this host's Python: no binary is added, and no launcher or core mask applies."""

    def probe(self, help_text: str) -> frozenset[str]:
        """Return the flags that a binary's `--help` lists; empty if it is not this program's help."""

    def files(self, tool: Tool) -> Sequence[Path]:
        """Return what must lie next to the binary on the device, such as libraries; each keeps its name there."""
        return ()

    def environment(self, tool: Tool, tool_path: str) -> Mapping[str, str]:
        """Return the variables to set for the process, such as `LD_LIBRARY_PATH`."""
        return {}

    def arguments(self, tool: Tool, tool_path: str, request: InvocationRequest) -> list[str]:
        """Return the command line, program first.

        Raises `FailureError` for a request that it cannot carry out exactly. It never drops a part of a request,
        because that would measure another thing.
        """

    def judge(self, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
        """Return what a finished process measured, or why it counts as failed.

        A measurement holds as many timed runs as were asked for and names the delegate that the output proves.
        Whatever cannot be read is a failure (`tool_output_unreadable`), never a zero or a guess.
        """

    def can(self, feature: Feature, tool: Tool, delegate: str) -> bool:
        """Return True if this binary offers the feature on this delegate; False before it was probed, if in doubt."""
        return False

    def profiled_nodes(self, log: str) -> Sequence[ProfiledNode]:
        """Return the nodes of the log's op profile in the order of execution; empty if it holds none."""
        return ()

    def keeps_cache(self, command: Iterable[str]) -> bool:
        """Return True if this command line lets its delegate keep a cache."""
        return False


_LINK = 'mkdir -p "$1" || exit; shift; while [ $# -gt 0 ]; do ln -sf "$2" "$1" || exit; shift 2; done'
"""Pushed files are named by their contents; a loader looks for names."""
_TIMEOUT_S = 20.0

_registered: dict[str, BenchmarkProgram] = {}
"""By family; filled when a family is first asked for."""


def register(program: BenchmarkProgram) -> None:
    """Make a program known that is not a package next to this file."""
    _registered.update(dict.fromkeys(program.families, program))


def families() -> list[str]:
    """Return every family that a program serves."""
    return list(dict.fromkeys([*_packages(), *_registered]))


def addable_families() -> list[str]:
    """Return the families of which a binary can be added."""
    return [family for family in families() if not program_of_family(family).host_only]


def program_of_family(family: str) -> BenchmarkProgram:
    """Return the program that serves a family. Raises `UsageError` if none does."""
    if family not in _registered:
        package = _packages().get(family)
        if package is None:
            known = ", ".join(families())
            raise UsageError(f"Cannot use a tool of the family {family!r}: no program serves it.", f"Known: {known}.")
        register(importlib.import_module(f"{package}.program").PROGRAM)
    return _registered[family]


def program_of(tool: Tool) -> BenchmarkProgram:
    """Return the program that a tool is a build of. Raises `UsageError` if none serves its family."""
    return program_of_family(tool.family)


def can(tool: Tool, feature: Feature, delegate: str = "cpu") -> bool:
    """Return True if the tool offers a feature on a delegate."""
    return program_of(tool).can(feature, tool, delegate)


def keeps_cache(family: str, command: Iterable[str]) -> bool:
    """Return True if a stored command line let its delegate keep a cache; False if no program serves its family."""
    return family in families() and program_of_family(family).keeps_cache(command)


def push_tool(device: Device, tool: Tool) -> str:
    """Bring a tool to a device, with its files next to it, and return its path there. Raises `DeviceError`."""
    pushed = device.push(tool.path)
    files = program_of(tool).files(tool)
    if not files:
        return pushed
    folder = f"{device.work_folder}/tools/{tool.sha256}"
    names = {f"{folder}/{file.name}": device.push(file) for file in files} | {f"{folder}/{tool.path.name}": pushed}
    linked = device.run(["sh", "-c", _LINK, "sh", folder, *chain.from_iterable(names.items())], timeout_s=_TIMEOUT_S)
    if not linked.ok:
        message = f"Cannot put the files of {tool.name} into one folder of {device.serial}."
        raise DeviceError(Failure(FailureClass.STORAGE_FULL, message, linked.stderr))
    return f"{folder}/{tool.path.name}"


def tool_files(device: Device, tool: Tool, tool_path: str) -> dict[str, Path]:
    """Return what runs as the tool: each path on the device, with the file or folder here that it is a copy of."""
    if device.kind is not DeviceKind.HOST:
        folder = tool_path.rpartition("/")[0]
        return {tool_path: tool.path} | {f"{folder}/{file.name}": file for file in program_of(tool).files(tool)}
    beside = [tool.path.with_name(f"{tool.path.name}.bin"), tool.path.with_name("lib")]  # of a bundle
    files = [tool.path, *program_of(tool).files(tool), *map(Path, tool.launcher), *beside]
    return {str(file): file for file in files if file.exists()}


@functools.cache
def _packages() -> dict[str, str]:
    """Return the package of each family, by the `FAMILIES` that the packages next to this file name."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], "harness.benchmark."):
        if module.ispkg:
            found |= dict.fromkeys(importlib.import_module(module.name).FAMILIES, module.name)
    return found
