"""Run one process of the tool on a device and judge it: a measurement or a failure, always with the raw log."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace

from harness.benchmark.invocation import Invocation, InvocationRequest, Measurement, join_streams
from harness.benchmark.pinning import cores_allowed, mask_failure, pinned
from harness.benchmark.program import BenchmarkProgram, program_of
from harness.benchmark.tool import Tool
from harness.devices.device import CommandResult, Device
from harness.devices.state.sampling import sampled
from harness.errors import DeviceError, Failure, FailureClass, FailureError


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
    program = program_of(tool)
    try:
        arguments = program.arguments(tool, tool_path, request)
    except FailureError as error:
        return Invocation((), "", time.monotonic() - started, failure=error.failure)
    arguments[:1] = tool.launcher or arguments[:1]
    around = pinned(arguments, core_mask) if core_mask else arguments
    if sampled_cores:
        around = sampled(device, around, sampled_cores)
    try:
        result = device.run(around, timeout_s=timeout_s, environment=program.environment(tool, tool_path) or None)
    except DeviceError as error:
        return Invocation(tuple(arguments), "", time.monotonic() - started, failure=error.failure)
    outcome = _judge(program, result, request)
    allowed = cores_allowed(result.stdout + result.stderr)  # one stream on phones before Android 7
    if core_mask and isinstance(outcome, Measurement):
        outcome = mask_failure(core_mask, allowed) or outcome
    invocation = Invocation(tuple(arguments), join_streams(result), result.wall_s, cores_allowed=allowed)
    if isinstance(outcome, Failure):
        return replace(invocation, failure=outcome)
    return replace(invocation, measurement=outcome)


def _judge(program: BenchmarkProgram, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
    """Let the program judge, and hold every program to two rules: it never raises, and no latency is zero."""
    try:
        outcome = program.judge(result, request)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        message = f"Cannot read the output of {program.name}: {type(error).__name__}: {error}."
        return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, result.stdout.strip()[-400:])
    if isinstance(outcome, Measurement) and not 0 < outcome.latency_avg_us < math.inf:
        message = f"{program.name} printed a latency of {outcome.latency_avg_us:g} us."
        return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, result.stdout.strip()[-400:])
    return outcome
