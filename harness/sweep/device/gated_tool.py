"""Run one invocation on a cool device, read the state after it, and judge throttling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.pinning import mask_failure
from harness.benchmark.tool import Tool
from harness.devices.device import Device
from harness.devices.state.sampling import ClockSamples, take_samples
from harness.devices.state.telemetry import Telemetry, read_telemetry
from harness.devices.state.thermal_gate import GateRecord, ThermalGate, throttled, throttling
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass


@dataclass(frozen=True)
class GatedInvocation:
    """An invocation and the state of the device around it; None if the device did not answer."""

    invocation: Invocation
    started_at: datetime
    before: Telemetry | None
    during: ClockSamples | None
    after: Telemetry | None
    gate: GateRecord

    @property
    def throttled(self) -> bool:
        """True if the tool ran and the phone throttled."""
        failure = self.invocation.failure
        return failure is not None and failure.failure_class is FailureClass.THROTTLED and self.gate.open


class GatedTool:
    """The tool on one device, behind that device's thermal gate."""

    def __init__(
        self,
        device: Device,
        tool: Tool,
        tool_path: str,
        gate: ThermalGate,
        cores: Collection[int],
        *,
        timeout_s: float,
        sample: bool = True,
    ) -> None:
        """`cores` are the measured cores; `sample` records their clocks while the tool runs."""
        self._device = device
        self._tool = tool
        self._tool_path = tool_path
        self._gate = gate
        self._cores = cores
        self._timeout_s = timeout_s
        self._sampled_cores = cores if sample else ()
        self._last_look: Telemetry | None = None

    def invoke(self, request: InvocationRequest, core_mask: str | None, *, gated: bool = True) -> GatedInvocation:
        """Wait for a cool device, run the tool once, and read the state. Never raises for what tool or device did.

        One reading stands between two invocations: after the first and before the second. Without
        `gated` a hot device is not waited for; the sustained pass is not judged for throttling either.
        """
        before, gate = self._gate.wait(self._last_look) if gated else self._pass_gate()
        started_at = datetime.now(UTC)
        if not gate.open:
            self._last_look = None
            return GatedInvocation(_too_hot(gate), started_at, before, None, None, gate)
        invocation = invoke(
            self._device,
            self._tool,
            self._tool_path,
            request,
            timeout_s=self._timeout_s,
            core_mask=core_mask,
            sampled_cores=self._sampled_cores,
        )
        lost = invocation.failure is not None and invocation.failure.failure_class in DEVICE_GONE
        during, after = (None, None) if lost else self._read_state()
        self._last_look = after
        if invocation.measurement and (failure := self._judge(before, during, after, core_mask, request.purpose)):
            invocation = replace(invocation, failure=failure)
        gate = replace(gate, workload_ratio=self._gate.workload_ratio)
        return GatedInvocation(invocation, started_at, before, during, after, gate)

    def _pass_gate(self) -> tuple[Telemetry | None, GateRecord]:
        held_by = self._gate.held_by(self._last_look) if self._last_look else ""
        return self._last_look, GateRecord(0.0, 0, held_by, open=True, cool=not held_by)

    def _judge(
        self,
        before: Telemetry | None,
        during: ClockSamples | None,
        after: Telemetry | None,
        core_mask: str | None,
        purpose: Pass,
    ) -> Failure | None:
        """Judge a measurement by the state around it: wrong cores, or throttled cores."""
        if core_mask and during:
            moved = [mask_failure(core_mask, allowed) for allowed in during.cores_allowed]
            if failure := next(filter(None, moved), None):
                return failure
        if purpose is Pass.SUSTAINED:  # throttling is what it measures
            return None
        if failure := throttling(before, during, after, self._cores):
            return failure
        if after and (sign := self._gate.slowness(after)):
            self._last_look = None  # so that the gate does the work again until it is as fast as at first
            return throttled(after, sign)
        return None

    def _read_state(self) -> tuple[ClockSamples | None, Telemetry | None]:
        """Return the samples of the last run and the telemetry after it; None if the device does not answer."""
        try:
            return take_samples(self._device) if self._sampled_cores else (None, read_telemetry(self._device))
        except DeviceError:  # the next invocation reports it
            return None, None


def _too_hot(gate: GateRecord) -> Invocation:
    message = f"The phone did not cool within {gate.waited_s:.0f} s: {gate.held_by}. Nothing was run."
    return Invocation((), "", 0.0, failure=Failure(FailureClass.THROTTLED, message, gate.held_by))
