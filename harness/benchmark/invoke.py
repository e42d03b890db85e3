"""Run one process of the tool on a device and judge it: a measurement or a failure, always with the raw log."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from harness.benchmark.benchmark_model.command import build_arguments, cores_allowed, mask_failure, pinned
from harness.benchmark.benchmark_model.outcome import join_streams, judge
from harness.benchmark.invocation import Invocation, InvocationRequest, Measurement
from harness.benchmark.litert_python import benchmark as litert_python
from harness.benchmark.tool import Tool, ToolFamily
from harness.devices.device import Device
from harness.devices.state.sampling import sampled
from harness.errors import DeviceError, Failure, FailureError


def invoke(
    device: Device,
    tool: Tool,
    tool_path: str,
    request: InvocationRequest,
    *,
    timeout_s: float,
    core_mask: str | None = None,
    sampled_cores: Collection[int] = (),
) -> Invocation:
    """Run the tool once, on the cores of a hexadecimal mask if one is given, sampling the clocks of some cores.

    Never raises for what the tool or the device did: that is a failure in the invocation.
    """
    started = time.monotonic()
    try:
        if tool.family is ToolFamily.LITERT_PYTHON:
            return litert_python.invoke(device, request, timeout_s=timeout_s)
        arguments = build_arguments(tool, tool_path, request)
    except FailureError as error:
        return Invocation((), "", time.monotonic() - started, failure=error.failure)
    arguments[:1] = tool.launcher or arguments[:1]
    around = pinned(arguments, core_mask) if core_mask else arguments
    if sampled_cores:
        around = sampled(device, around, sampled_cores)
    try:
        result = device.run(around, timeout_s=timeout_s)
    except DeviceError as error:
        return Invocation(tuple(arguments), "", time.monotonic() - started, failure=error.failure)
    outcome = judge(result, request)
    allowed = cores_allowed(result.stdout + result.stderr)  # one stream on phones before Android 7
    if core_mask and isinstance(outcome, Measurement):
        outcome = mask_failure(core_mask, allowed) or outcome
    invocation = Invocation(tuple(arguments), join_streams(result), result.wall_s, cores_allowed=allowed)
    if isinstance(outcome, Failure):
        return replace(invocation, failure=outcome)
    return replace(invocation, measurement=outcome)
