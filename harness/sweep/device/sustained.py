"""Run one cell for minutes, window after window, to measure throttling under load (promise H18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.program import Feature, can
from harness.benchmark.tool import Tool
from harness.devices.device import Device, fresh_folder
from harness.spec.sweep import MeasurementSettings
from harness.store.records import Cell
from harness.sweep.plan import PlannedInvocation, window_count

_SPARE_S = 60.0
"""Added to the tool's own time limit; without it, the tool would cut windows short."""


def sustain(
    cell: Cell,
    device: Device,
    tool: Tool,
    measurement: MeasurementSettings,
    *,
    request: Callable[[PlannedInvocation], InvocationRequest],
    invoke: Callable[[PlannedInvocation, InvocationRequest], Invocation | None],
) -> Invocation | None:
    """Run all windows of one cell without pauses, one process each; stop at a failure and return the last one.

    The tool prints one statistic per process, so a window is a process. The start between two is kept short by the
    delegate's cache if it has one. `request` and `invoke` are as for `CellSetup`. Raises `DeviceError`.
    """
    folder = f"{device.work_folder}/cache"
    has_cache = can(tool, Feature.CACHE_FOLDER, cell.delegate)
    outcome = None
    with fresh_folder(device, folder):
        for index in range(window_count(measurement)):
            planned = PlannedInvocation(cell, Pass.SUSTAINED, index, block=index)
            window = replace(
                request(planned),
                runs=1,
                min_s=measurement.sustained_window_s,
                warmup_runs=1,
                warmup_min_s=0.0,
                max_s=measurement.sustained_window_s + _SPARE_S,
                cache_folder=folder if has_cache else None,
            )
            outcome = invoke(planned, window)
            if outcome is None or outcome.failure:
                break
    return outcome
