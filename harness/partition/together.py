"""Run stages at the same time, one process each on cores of its own, and see what each then takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.tool import Tool
from harness.devices.device import Device
from harness.partition.placement import Unit
from harness.tflite.variant import Variant

_US_PER_S = 1e6
_SPARE_S = 60.0


@dataclass(frozen=True)
class Worker:
    """A file and the unit that is to run it."""

    variant: Variant
    unit: Unit
    start_us: float
    """How long it takes until its timed runs begin, as measured before: all are to begin at once."""


def run_together(
    workers: Sequence[Worker],
    reach: Callable[[], Device],
    tool: Tool,
    *,
    seconds: float,
    runs_per_s: float | None = None,
) -> list[Invocation]:
    """Run all workers for so many seconds at the same time; return what each measured, in their order.

    With `runs_per_s` each begins so many runs a second, as if a pipeline handed it its inputs; without, one right after
    the other.

    `reach` opens the device anew for each worker, since one connection serves one process at a time. What starts slowly
    is started first, so that the timed parts lie over one another but for some tenths of a second.
    """
    device = reach()
    tool_path = device.push(tool.path)
    requests = [_request(device.push(worker.variant.path), worker.unit, seconds, runs_per_s) for worker in workers]
    slowest_us = max(worker.start_us for worker in workers)
    devices = [reach() for _ in workers]

    def run(worker: Worker, request: InvocationRequest, own: Device) -> Invocation:
        threading.Event().wait((slowest_us - worker.start_us) / _US_PER_S)
        return invoke(
            own, tool, tool_path, request, timeout_s=seconds + _SPARE_S + slowest_us / _US_PER_S,
            core_mask=worker.unit.core_mask,
        )  # fmt: skip

    with ThreadPoolExecutor(len(workers), thread_name_prefix="stage") as pool:
        return list(pool.map(run, workers, requests, devices))


def _request(path: str, unit: Unit, seconds: float, runs_per_s: float | None) -> InvocationRequest:
    return InvocationRequest(
        path, unit.delegate, purpose=Pass.SUSTAINED, runs=1, min_s=seconds, max_s=seconds + _SPARE_S, warmup_min_s=0.1,
        runs_per_s=runs_per_s,
    )  # fmt: skip
