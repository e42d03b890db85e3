"""Measure all cells of one device, come what may: each failure is stored with its class and the rest goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from harness.accuracy.on_device import measure_accuracy
from harness.benchmark.invoke import invoke
from harness.benchmark.measurement import Invocation, InvocationRequest, Pass
from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool
from harness.compression.variant import Variant
from harness.devices.base import Device
from harness.devices.labels import preflight_labels
from harness.devices.profiles import match_profile
from harness.devices.telemetry import Telemetry, read_telemetry
from harness.errors import DeviceError, Failure, FailureClass
from harness.results.records import Cell
from harness.results.store import Store
from harness.spec.sweep import SweepSpec
from harness.sweep.plan import PlannedInvocation, plan_invocations
from harness.sweep.progress import Observer

HOPELESS = frozenset(
    {
        FailureClass.UNSUPPORTED_OP,
        FailureClass.UNSUPPORTED_OP_VERSION,
        FailureClass.DELEGATE_UNAVAILABLE,
        FailureClass.INVALID_MODEL,
        FailureClass.WRONG_ABI,
        FailureClass.TOOL_REJECTED_FLAG,
    }
)
"""Classes that a second try cannot mend: the cell is given up after the first."""

PHONE_GONE = frozenset({FailureClass.DEVICE_LOST, FailureClass.DEVICE_OFFLINE, FailureClass.DEVICE_UNAUTHORIZED})
"""Classes that say nothing about the cell: the device is waited for and the invocation is tried again."""

FAILURES_BEFORE_GIVING_UP = 2
ALIVE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class SweepContext:
    """What every device of one sweep shares."""

    sweep_id: str
    spec: SweepSpec
    variants: Sequence[Variant]
    evidence: OutputEvidence | None
    """Real inputs and reference outputs; None where the spec asks for no accuracy."""
    store: Store
    registry: ToolRegistry
    observer: Observer
    stop: threading.Event
    """Set when the user interrupts: the invocation under way is finished, nothing more is started."""


class DeviceRun:
    """One device of a sweep, from its facts to its last invocation."""

    def __init__(self, context: SweepContext, device: Device) -> None:
        self._context = context
        self._device = device
        self._facts = device.facts()
        self._tool: Tool = context.registry.choose(self._facts)
        self._profile = match_profile(self._facts)
        self._failures: Counter[str] = Counter()
        """Failed invocations by cell key, to give up on a cell that cannot work."""

    def run(self) -> None:
        """Measure every cell. Raises `DeviceError` only when the device is gone for good."""
        store, sweep_id = self._context.store, self._context.sweep_id
        labels = preflight_labels(self._facts, read_telemetry(self._device))
        store.add_device(sweep_id, self._facts, self._profile.name, labels)
        store.add_tool(sweep_id, self._tool)
        tool_path = self._device.push(self._tool.path)
        paths = self._push_variants()
        cells = self._cells(paths)
        for cell in cells:
            store.add_cell(sweep_id, cell)
        planned = plan_invocations(cells, self._context.spec.measurement, seed=self._context.spec.seed)
        self._context.observer.begin(self._facts.serial, len(cells) + len(planned))
        try:
            for cell in cells:
                self._measure_accuracy(cell, tool_path, paths)
            done = store.done(sweep_id)
            for invocation in planned:
                if (invocation.cell.key, invocation.purpose, invocation.index) not in done:
                    self._measure(invocation, tool_path, paths)
        finally:
            self._context.observer.end(self._facts.serial)
