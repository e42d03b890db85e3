"""LiteRT's Python benchmark as a `BenchmarkProgram`: what measures a host for which no binary is registered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from harness.benchmark.invocation import InvocationRequest, Measurement, ProfiledNode
from harness.benchmark.litert_python import FAMILIES, benchmark
from harness.benchmark.program import Feature
from harness.benchmark.tool import Tool, ToolSystem
from harness.devices.device import CommandResult
from harness.errors import Failure


class LitertPython:
    """A child of this host's Python: CPU only, random inputs, no outputs."""

    name = "benchmark_litert_model"
    families = FAMILIES
    host_only = True

    def probe(self, _help_text: str) -> frozenset[str]:
        """Return nothing: there is no binary to ask."""
        return frozenset()

    def files(self, _tool: Tool) -> Sequence[Path]:
        """Return nothing: the package is installed."""
        return ()

    def environment(self, _tool: Tool, _tool_path: str) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def arguments(self, _tool: Tool, _tool_path: str, request: InvocationRequest) -> list[str]:
        """Return the command line of the child. Raises `FailureError` for every delegate but `cpu`."""
        return benchmark.build_arguments(request)

    def judge(self, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
        """Judge the child by its result line."""
        return benchmark.judge(result, request)

    def can(self, _feature: Feature, _tool: Tool, _delegate: str) -> bool:
        """Return False: it measures latency and memory, nothing else."""
        return False

    def profiled_nodes(self, _log: str) -> Sequence[ProfiledNode]:
        """Return nothing: it prints no op profile."""
        return ()

    def keeps_cache(self, _command: Iterable[str]) -> bool:
        """Return False: no delegate of it keeps a cache."""
        return False


PROGRAM = LitertPython()


def installed_tool() -> Tool:
    """Return the benchmark as a tool. The version of the package that holds it is its identity."""
    name = f"ai-edge-litert {version('ai-edge-litert')} benchmark_litert_model"
    return Tool(
        name=name,
        family=FAMILIES[0],
        system=ToolSystem.LINUX,
        abi="any",
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        path=Path(__file__).parent / "child.py",
        origin="package ai-edge-litert",
        flags=frozenset(),
    )
