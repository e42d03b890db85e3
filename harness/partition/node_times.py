"""What each step of a graph takes on a device, by the tool's op profile: the costs of cuts by time.

The runtime's own kernels run, since their profile names each operator by its number; delegates fuse operators, and
name what they made of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from harness.benchmark.benchmark_model.command import offers_op_profile
from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.op_profile import ProfiledNode
from harness.benchmark.invocation import InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.probe import with_flags
from harness.benchmark.registry import ToolRegistry
from harness.devices.cores import choose_measured_cores
from harness.devices.profiles import match_profile
from harness.errors import Failure, FailureClass, FailureError, UsageError
from harness.partition.graph import Graph
from harness.sweep.targets import opened
from harness.tflite.variant import Variant

_KERNELS = "cpu-builtin"
_NUMBERED = re.compile(r"^\[.*\]:(?P<operator>\d+)$")
_RUNS = 20
_TIMEOUT_S = 300.0
_US_PER_MS = 1000.0


def measure_steps(variant: Variant, graph: Graph, name: str) -> list[float]:
    """Return microseconds for each of `graph.steps` on the device called `name`.

    Raises `UsageError` where the device's tool has no op profile, `FailureError` where it failed, and `DeviceError`.
    """
    registry = ToolRegistry()
    with opened(name, registry) as device:
        tool = registry.choose(device.facts())
        tool_path = device.push(tool.path)
        tool = with_flags(tool, registry, device, tool_path)
        if not offers_op_profile(tool):
            raise UsageError(
                f"The tool {tool.name} tells no time by operator, which --by time needs.",
                "Add one that does (`harness tools add`), or cut by work: --by work.",
            )
        request = InvocationRequest(device.push(variant.path), _KERNELS, purpose=Pass.OP_PROFILE, runs=_RUNS)
        mask = choose_measured_cores(device, match_profile(device.facts()).cores).mask
        run = invoke(device, tool, tool_path, request, timeout_s=_TIMEOUT_S, core_mask=mask)
    if run.failure:
        raise FailureError(run.failure)
    return step_times(graph, parse_log(run.log)[-1].op_profile_order)


def step_times(graph: Graph, nodes: Iterable[ProfiledNode]) -> list[float]:
    """Return microseconds for each of `graph.steps`. Raises `FailureError` for a profile of another graph."""
    times_us: dict[int, float] = defaultdict(float)
    for node in nodes:
        if numbered := _NUMBERED.match(node.name):
            times_us[int(numbered["operator"])] += node.avg_ms * _US_PER_MS * node.times_called
    missing = [graph.operators[step].name for step in graph.steps if step not in times_us]
    if missing:
        message = f"The op profile tells nothing of {len(missing)} operators, such as {missing[0]}."
        raise FailureError(Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message))
    return [times_us[step] for step in graph.steps]
