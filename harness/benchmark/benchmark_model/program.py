"""`benchmark_model` as a `BenchmarkProgram`: TFLite's and LiteRT's builds of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.benchmark.benchmark_model import FAMILIES, command, outcome
from harness.benchmark.benchmark_model.command import keeps_cache
from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.invocation import InvocationRequest, Measurement, ProfiledNode
from harness.benchmark.program import BenchmarkProgram, Feature
from harness.benchmark.tool import Tool
from harness.devices.device import CommandResult
from harness.errors import Failure

_FLAG = re.compile(r"^\s+--([A-Za-z0-9_]+)=", re.MULTILINE)


def flags_in_help(text: str) -> frozenset[str]:
    """Return the flag names of a `--help` text: lines such as `	--num_runs=50   int32  optional  ...`."""
    return frozenset(_FLAG.findall(text))


class BenchmarkModel(BenchmarkProgram):
    """The official tool. Its logs of all eras are judged alike, whatever the family."""

    name = "benchmark_model"
    families = FAMILIES

    def probe(self, help_text: str) -> frozenset[str]:
        """Return the flags of a help text that names `--graph`, as that of every build does."""
        flags = flags_in_help(help_text)
        return flags if "graph" in flags else frozenset()

    def arguments(self, tool: Tool, tool_path: str, request: InvocationRequest) -> list[str]:
        """Return the command line out of the flags that this binary supports."""
        return command.build_arguments(tool, tool_path, request)

    def judge(self, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
        """Judge the log: the exit code is 0 in many bad cases."""
        return outcome.judge(result, request)

    def can(self, feature: Feature, tool: Tool, delegate: str) -> bool:
        """Return True if the flags of the probed binary offer it."""
        match feature:
            case Feature.OP_PROFILE:
                return command.offers_op_profile(tool)
            case Feature.RUN_FREQUENCY:
                return command.offers_run_frequency(tool)
            case Feature.CACHE_FOLDER:
                return bool(command.cache_flags(tool, delegate, ""))
            case Feature.RAW_TENSORS:
                return command.offers_raw_tensors(tool)
            case Feature.FULL_DELEGATION:
                return command.can_require_full_delegation(tool, delegate)

    def profiled_nodes(self, log: str) -> Sequence[ProfiledNode]:
        """Return the nodes of the last run in the log."""
        return parse_log(log)[-1].op_profile_order

    def keeps_cache(self, command: Iterable[str]) -> bool:
        """Look for the flags of every delegate's cache."""
        return keeps_cache(command)


PROGRAM = BenchmarkModel()
