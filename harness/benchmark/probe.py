"""Ask a tool for the flags that it knows, once for each binary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.benchmark.tool import Tool
from harness.devices.device import CommandResult, Device
from harness.errors import Failure, FailureClass, FailureError

if TYPE_CHECKING:
    from harness.benchmark.registry import ToolRegistry

_FLAG = re.compile(r"^\s+--([A-Za-z0-9_]+)=", re.MULTILINE)
PROBE_TIMEOUT_S = 30.0


def flags_in_help(text: str) -> frozenset[str]:
    """Return the flag names of a `--help` text: lines such as `	--num_runs=50   int32  optional  ...`."""
    return frozenset(_FLAG.findall(text))


def with_flags(tool: Tool, registry: ToolRegistry, device: Device, tool_path: str) -> Tool:
    """Return the tool with its flags: a binary that was never asked for them is asked now. Raises `FailureError`."""
    return tool if tool.flags is not None else registry.remember_flags(tool, probe_flags(device, tool, tool_path))


def probe_flags(device: Device, tool: Tool, tool_path: str) -> frozenset[str]:
    """Run `--help` on a device (exit code 1 is normal there). Raises `FailureError` when it lists no flags."""
    command = [*(tool.launcher or (tool_path,)), "--help"]
    result: CommandResult = device.run(command, timeout_s=PROBE_TIMEOUT_S)
    flags = flags_in_help(result.stdout + "\n" + result.stderr)
    if "graph" not in flags:
        from harness.benchmark.benchmark_model.failures import find_failure
        from harness.benchmark.benchmark_model.log_lines import split_lines

        lines = split_lines(result.stdout + "\n" + result.stderr)
        failure = find_failure(lines) or Failure(
            FailureClass.TOOL_OUTPUT_UNREADABLE,
            f"{tool.name} does not answer --help like a benchmark_model (exit code {result.exit_code}).",
            (result.stderr or result.stdout)[-400:],
        )
        raise FailureError(failure)
    return flags
