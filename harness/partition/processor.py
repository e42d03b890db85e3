"""How much time of the phone's cores one inference takes: an accelerator's driver, or what stands in for one, needs it.

The shell that starts the tool tells afterwards how long its child was on a processor, all threads together. Two
processes with different numbers of runs are compared, so that loading and compiling drop out.
"""

from __future__ import annotations

import re

from harness.benchmark.invocation import InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.tool import Tool, ToolFamily
from harness.devices.device import Device

_TELL_TIMES = """
"$@"
code=$?
echo harness-processor-time: >&2
times >&2
exit $code
"""
_TOLD = re.compile(r"^harness-processor-time:\s*\n.*\n\s*(\d+)m([\d.]+)s\s+(\d+)m([\d.]+)s", re.MULTILINE)
"""The first line of `times` is the shell's own: user and system time; the second its children's."""
_MEASURED_US = 1e6
_FEWEST_RUNS = 5
_TIMEOUT_S = 120.0
_S_PER_MINUTE, _US_PER_S = 60, 1e6


def processor_us(
    device: Device, tool: Tool, model: str, delegate: str, *, threads: int, latency_us: float, core_mask: str | None
) -> float | None:
    """Return the processor time of one inference, microseconds; None where the tool fails or nothing tells it.

    `model` is the file on the device, and `latency_us` decides how many runs make about a second.
    """
    if tool.family is ToolFamily.LITERT_PYTHON:
        return None
    tool_path = device.push(tool.path)
    timed = tool.model_copy(update={"launcher": ("sh", "-c", _TELL_TIMES, "sh", *(tool.launcher or (tool_path,)))})

    def used_us(runs: int) -> float | None:
        request = InvocationRequest(
            model, delegate, threads, purpose=Pass.SUSTAINED, runs=runs, warmup_min_s=0.0, max_s=_TIMEOUT_S
        )
        run = invoke(device, timed, tool_path, request, timeout_s=2 * _TIMEOUT_S, core_mask=core_mask)
        return children_us(run.log) if run.measurement else None

    more_runs = max(_FEWEST_RUNS, round(_MEASURED_US / latency_us))
    few, many = used_us(1), used_us(1 + more_runs)
    return max(many - few, 0.0) / more_runs if few is not None and many is not None else None


def children_us(log: str) -> float | None:
    """Return the processor time that the shell told of its children; None where it told none."""
    told = _TOLD.search(log)
    if not told:
        return None
    minutes, seconds = int(told[1]) + int(told[3]), float(told[2]) + float(told[4])
    return (minutes * _S_PER_MINUTE + seconds) * _US_PER_S
