"""Check the outputs of the cells of one device, and measure their accuracy."""

from __future__ import annotations

from harness.accuracy.on_device import AccuracyTarget, measure_accuracy
from harness.benchmark.tool import Tool
from harness.devices.device import Device
from harness.store.records import Cell
from harness.sweep.context import SweepContext
from harness.sweep.device.progress import DeviceProgress
from harness.sweep.device.recovery import DeviceRecovery
from harness.sweep.retry import from_outside


class OutputChecks:
    """The accuracy passes of one device; every attempt is stored."""

    def __init__(
        self,
        context: SweepContext,
        device: Device,
        tool: Tool,
        tool_path: str,
        recovery: DeviceRecovery,
        progress: DeviceProgress,
    ) -> None:
        """`tool_path` is where the tool lies on the device."""
        self._context = context
        self._device = device
        self._tool = tool
        self._tool_path = tool_path
        self._recovery = recovery
        self._progress = progress

    def check(self, cell: Cell, model_path: str) -> None:
        """Check one cell, whose variant lies at `model_path` on the device, again as long as that may help.

        Nothing is done where the sweep asks for no accuracy. Raises what DeviceRecovery.recover` raises.
        """
        context = self._context
        if context.evidence is None:
            return
        target = AccuracyTarget(
            self._device,
            self._tool,
            self._tool_path,
            context.variants.named(cell.variant_name),
            model_path,
            cell.delegate,
            cell.threads,
            context.spec.measurement.timeout_s,
        )
        tries = self._recovery.tries(f"{cell.key}/accuracy", worth=from_outside)  # it sends fewer samples by itself
        while not context.stop.is_set():
            self._progress.running(cell, "accuracy")
            outcome = measure_accuracy(target, context.evidence)
            context.store.add_accuracy(context.sweep_id, cell.key, outcome)
            if outcome.failure is None:
                return
            self._recovery.recover(outcome.failure)
            pause_s = tries.failed(outcome.failure.failure_class)
            if pause_s is None:
                return
            self._recovery.pause(pause_s)
