"""LiteRT's Python benchmark as a `BenchmarkProgram`: what measures a host for which no binary is registered."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from harness.benchmark.invocation import InvocationRequest, Measurement
from harness.benchmark.litert_python import FAMILIES, benchmark
from harness.benchmark.program import BenchmarkProgram
from harness.benchmark.tool import Tool, ToolSystem
from harness.devices.device import CommandResult
from harness.errors import Failure


class LitertPython(BenchmarkProgram):
    """A child of this host's Python: CPU only, random inputs, no outputs."""

    name = "benchmark_litert_model"
    families = FAMILIES
    host_only = True

    def probe(self, help_text: str) -> frozenset[str]:
        """Return nothing: there is no binary to ask."""
        return frozenset()

    def arguments(self, tool: Tool, tool_path: str, request: InvocationRequest) -> list[str]:
        """Return the command line of the child. Raises `FailureError` for every delegate but `cpu`."""
        return benchmark.build_arguments(request)

    def judge(self, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
        """Judge the child by its result line."""
        return benchmark.judge(result, request)


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
