"""Run one process of the tool on a device and judge it: a measurement or a failure, always with the raw log."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace
from uuid import uuid4

from harness.benchmark.invocation import FASTEST_US, Invocation, InvocationRequest, Measurement, join_streams
from harness.benchmark.pinning import cores_allowed, mask_failure, pinned
from harness.benchmark.program import BenchmarkProgram, program_of
from harness.benchmark.tool import Tool
from harness.devices.device import RUN_MARK, CommandResult, Device
from harness.devices.state.sampling import sampled
from harness.errors import DeviceError, Failure, FailureClass, FailureError

_CLOCKS_DIFFER = 1.02
"""The device times the runs, this host the process: their clocks may run apart, but not by more."""
_EVIDENCE_CHARACTERS = 400
_LOG_CHARACTERS = 50_000
"""Of the head and of the tail of endless output; compressing megabytes of noise takes minutes."""


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
        environment = {**program.environment(tool, tool_path), RUN_MARK: uuid4().hex}
        result = device.run(around, timeout_s=timeout_s, environment=environment)
    except DeviceError as error:
        return Invocation(tuple(arguments), "", time.monotonic() - started, failure=error.failure)
    outcome = _judge(program, result, request)
    allowed = cores_allowed(result.stdout + result.stderr)  # one stream on phones before Android 7
    if core_mask and isinstance(outcome, Measurement):
        outcome = mask_failure(core_mask, allowed) or outcome
    log = join_streams(result)
    if result.dropped_bytes:
        log = f"{log[:_LOG_CHARACTERS]}\n----- left out -----\n{log[-_LOG_CHARACTERS:]}"
    invocation = Invocation(tuple(arguments), log, result.wall_s, cores_allowed=allowed)
    if isinstance(outcome, Failure):
        return replace(invocation, failure=outcome)
    return replace(invocation, measurement=outcome)


def _judge(program: BenchmarkProgram, result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
    """Let the program judge, and hold every program to what no program can do: raise, or be faster than its clock."""
    if result.dropped_bytes:
        message = f"{program.name} printed {result.dropped_bytes / 1e6:.1f} MB more than harness reads."
        return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, result.stdout[:_EVIDENCE_CHARACTERS])
    try:
        outcome = program.judge(result, request)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        message = f"Cannot read the output of {program.name}: {type(error).__name__}: {error}."
        return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, result.stdout.strip()[-_EVIDENCE_CHARACTERS:])
    if isinstance(outcome, Measurement) and (problem := _impossible(outcome, result.wall_s)):
        message = f"{program.name} printed {problem}."
        return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, result.stdout.strip()[-_EVIDENCE_CHARACTERS:])
    return outcome


def _impossible(measurement: Measurement, wall_s: float) -> str:
    """Return why no process that took `wall_s` can have measured this; empty if it can."""
    latency_us, timed_s = measurement.latency_avg_us, measurement.runs * measurement.latency_avg_us / 1e6
    if not FASTEST_US <= latency_us < math.inf:
        return f"a latency of {latency_us:g} us"
    if timed_s * 1e6 < 1:
        return f"{measurement.runs} runs that took {timed_s * 1e6:g} us together, less than a tick of its clock"
    if timed_s > wall_s * _CLOCKS_DIFFER:
        return f"{measurement.runs} runs of {latency_us:g} us, {timed_s:.3g} s, but the process took {wall_s:.3g} s"
    return ""
