"""Check the outputs of a cell and measure its accuracy."""

from __future__ import annotations

from harness.accuracy.on_device import AccuracyTarget, measure_accuracy
from harness.store.records import Cell
from harness.sweep.device.ready import ReadyDevice
from harness.sweep.retry import RetryPolicy


def check_outputs(ready: ReadyDevice, cell: Cell, model_path: str) -> None:
    """Check one cell, whose variant lies at `model_path` on the device; store and retry every attempt.

    Does nothing if the sweep asks for no accuracy. Raises whatever `DeviceRecovery.recover` raises.
    """
    context = ready.context
    if context.evidence is None:
        return
    target = AccuracyTarget(
        ready.device,
        ready.tool,
        ready.tool_path,
        context.variants.named(cell.variant_name),
        model_path,
        cell.delegate,
        cell.threads,
        context.spec.measurement.timeout_s,
    )
    # The pass itself sends fewer samples if they do not fit, so a failure of the cell is not worth another try.
    tries = ready.recovery.tries(f"{cell.key}/accuracy", RetryPolicy.EXTERNAL_ONLY)
    while not context.stop.is_set():
        ready.progress.running(cell, "accuracy")
        outcome = measure_accuracy(target, context.evidence)
        context.store.add_accuracy(context.sweep_id, cell.key, outcome)
        if outcome.failure is None:
            return
        ready.recovery.recover(outcome.failure)
        pause_s = tries.failed(outcome.failure.failure_class)
        if pause_s is None:
            return
        ready.recovery.pause(pause_s)
