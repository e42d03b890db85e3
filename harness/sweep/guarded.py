"""One invocation with everything around it: a cool device before, a look after, and a verdict on throttling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from harness.benchmark.invoke import invoke
from harness.benchmark.measurement import Invocation, InvocationRequest
from harness.benchmark.tool import Tool
from harness.devices.base import Device
from harness.devices.telemetry import Telemetry, read_telemetry
from harness.devices.thermal_gate import GateRecord, ThermalGate, throttling
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass


@dataclass(frozen=True)
class GuardedInvocation:
    """An invocation and the state of the device around it; a look is None where the device did not answer."""

    invocation: Invocation
    started_at: datetime
    before: Telemetry | None
    after: Telemetry | None
    gate: GateRecord

    @property
    def throttled(self) -> bool:
        """Whether the tool ran, and the phone held back."""
        failure = self.invocation.failure
        return self.invocation.measurement is not None and failure is not None


class GuardedTool:
    """The tool on one device, behind that device's thermal gate."""

    def __init__(
        self, device: Device, tool: Tool, tool_path: str, gate: ThermalGate, cores: Collection[int], *, timeout_s: float
    ) -> None:
        self._device = device
        self._tool = tool
        self._tool_path = tool_path
        self._gate = gate
        self._cores = cores
        self._timeout_s = timeout_s
        self._last_look: Telemetry | None = None

    def invoke(self, request: InvocationRequest, core_mask: str | None) -> GuardedInvocation:
        """Wait for a cool device, run the tool once and look again. Never raises for what tool or device did.

        One look stands between two invocations: it is the first one's after and the second one's before.
        """
        before, gate = self._gate.wait(self._last_look)
        started_at = datetime.now(UTC)
        if not gate.open:
            self._last_look = None
            return GuardedInvocation(_too_hot(gate), started_at, before, None, gate)
        invocation = invoke(
            self._device, self._tool, self._tool_path, request, timeout_s=self._timeout_s, core_mask=core_mask
        )
        lost = invocation.failure is not None and invocation.failure.failure_class in DEVICE_GONE
        after = self._last_look = None if lost else self._look()
        if invocation.measurement and (failure := throttling(before, after, self._cores)):
            invocation = replace(invocation, failure=failure)
        return GuardedInvocation(invocation, started_at, before, after, gate)

    def _look(self) -> Telemetry | None:
        try:
            return read_telemetry(self._device)
        except DeviceError:  # found out by the next invocation
            return None


def _too_hot(gate: GateRecord) -> Invocation:
    message = f"The phone did not cool within {gate.waited_s:.0f} s: {gate.held_by}. Nothing was run."
    return Invocation((), "", 0.0, failure=Failure(FailureClass.THROTTLED, message, gate.held_by))
