"""Measure all cells of one device, come what may: each failure is stored with its class and the rest goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.accuracy.on_device import AccuracyTarget, Evidence, measure_accuracy
from harness.accuracy.outcome import AccuracyOutcome
from harness.benchmark.invoke import invoke
from harness.benchmark.measurement import Invocation, InvocationRequest
from harness.benchmark.probe import probe_flags
from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool
from harness.compression.variant import Variant
from harness.devices.base import Device, DeviceKind
from harness.devices.core_mask import choose_measured_cores
from harness.devices.discovery import await_device
from harness.devices.labels import preflight_labels
from harness.devices.profiles import match_profile
from harness.devices.telemetry import read_telemetry
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass
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
        FailureClass.CORES_UNAVAILABLE,
    }
)
"""Classes that a second try cannot mend: the cell is given up after the first."""

FAILURES_BEFORE_GIVING_UP = 2


@dataclass(frozen=True)
class SweepContext:
    """What every device of one sweep shares."""

    sweep_id: str
    spec: SweepSpec
    variants: Sequence[Variant]
    evidence: Evidence | None
    """Real inputs and reference outputs; None where the spec asks for no accuracy."""
    store: Store
    registry: ToolRegistry
    observer: Observer
    stop: threading.Event
    """Set when the user interrupts: what is under way is finished, nothing more is started."""


class DeviceRun:
    """One device of a sweep, from its facts to its last invocation."""

    def __init__(self, context: SweepContext, device: Device) -> None:
        self._context = context
        self._device = device
        self._failures: Counter[str] = Counter()
        """Failed invocations by cell key, to give up on a cell that cannot work."""
        self._hopeless: set[str] = set()
        self._last_look: dict[str, object] | None = None

    def run(self) -> None:
        """Measure every cell. Raises `DeviceError` when the device cannot be used, or is gone for good."""
        store, sweep_id = self._context.store, self._context.sweep_id
        facts = self._device.facts()
        self._bar = facts.serial
        profile = match_profile(facts)
        telemetry = read_telemetry(self._device)
        store.add_device(sweep_id, facts, profile.name, preflight_labels(facts, telemetry))
        self._tool = self._ready_tool(self._context.registry.choose(facts))
        store.add_tool(sweep_id, self._tool)
        self._measured_cores = choose_measured_cores(self._device, profile.cores)
        if self._measured_cores.reason and facts.kind is not DeviceKind.HOST:
            self._context.observer.note(self._measured_cores.reason)
        delegates = self._context.spec.delegates or profile.delegates
        cells = [self._cell(variant, delegate, threads, profile.name)
                 for variant in self._context.variants
                 for delegate in delegates
                 for threads in self._context.spec.threads]  # fmt: skip
        for cell in cells:
            store.add_cell(sweep_id, cell)
        planned = plan_invocations(cells, self._context.spec.measurement, seed=self._context.spec.seed)
        self._context.observer.begin(self._bar, len(cells) + len(planned))
        try:
            self._refuse_too_many_threads(cells, planned)
            self._paths = self._push_variants(cells, planned)
            self._measure_all(cells, planned)
        finally:
            self._context.observer.end(self._bar)

    def _ready_tool(self, tool: Tool) -> Tool:
        """Bring the tool to the device; a binary that was never asked for its flags is asked now."""
        self._tool_path = self._device.push(tool.path)
        if tool.flags is None:
            tool = self._context.registry.remember_flags(tool, probe_flags(self._device, tool, self._tool_path))
        return tool

    def _cell(self, variant: Variant, delegate: str, threads: int, profile: str) -> Cell:
        measurement = self._context.spec.measurement
        return Cell(
            variant_sha256=variant.sha256,
            variant_name=variant.name,
            serial=self._device.serial,
            delegate=delegate,
            threads=threads,
            tool_sha256=self._tool.sha256,
            core_mask=self._measured_cores.mask,
            profile=profile,
            mode={"runs": measurement.runs, "warmup_min_s": measurement.warmup_min_s},
        )

    def _push_variants(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> dict[str, str]:
        """Push every variant; one that does not arrive fails its cells, unless the device itself is gone."""
        paths: dict[str, str] = {}
        for variant in self._context.variants:
            try:
                paths[variant.name] = self._push(variant)
            except DeviceError as error:
                if error.failure.failure_class in DEVICE_GONE:
                    raise
                lost = [cell for cell in cells if cell.variant_name == variant.name]
                self._fail_cells(lost, planned, error.failure)
        return paths

    def _push(self, variant: Variant) -> str:
        """Push one variant; where the device went away meanwhile, wait for it and push once more."""
        try:
            return self._device.push(variant.path)
        except DeviceError as error:
            if error.failure.failure_class not in DEVICE_GONE:
                raise
            self._await_device(error.failure)
            return self._device.push(variant.path)

    def _refuse_too_many_threads(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        """Fail the cells that ask for more threads than there are equal cores: they would wait for one another."""
        for cell in cells:
            if reason := self._measured_cores.refuses(cell.threads):
                self._fail_cells([cell], planned, Failure(FailureClass.CORES_UNAVAILABLE, reason))

    def _fail_cells(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation], failure: Failure) -> None:
        keys = {cell.key for cell in cells}
        self._hopeless |= keys
        for invocation in planned:
            if invocation.cell.key in keys and invocation.index == 0:
                self._store(invocation, Invocation((), "", 0.0, failure=failure), None)

    def _measure_all(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        store, sweep_id, observer = self._context.store, self._context.sweep_id, self._context.observer
        checked, done = store.done_accuracies(sweep_id), store.done(sweep_id)
        for cell in cells:
            if self._context.stop.is_set():
                return
            if cell.key not in checked and cell.key not in self._hopeless:
                self._measure_accuracy(cell)
            observer.advance(self._bar, f"accuracy {cell.variant_name} {cell.delegate}")
        for invocation in planned:
            if self._context.stop.is_set():
                return
            cell = invocation.cell
            if (cell.key, invocation.purpose, invocation.index) not in done and cell.key not in self._hopeless:
                self._measure(invocation)
            observer.advance(self._bar, f"{invocation.purpose} {cell.variant_name} {cell.delegate}")

    def _measure_accuracy(self, cell: Cell) -> None:
        evidence = self._context.evidence
        if evidence is None:
            return
        variant = next(variant for variant in self._context.variants if variant.name == cell.variant_name)
        target = AccuracyTarget(
            self._device, self._tool, self._tool_path, variant, self._paths[variant.name], cell.delegate, cell.threads,
            self._context.spec.measurement.timeout_s,
        )  # fmt: skip

        def attempt() -> AccuracyOutcome:
            return measure_accuracy(target, evidence)

        outcome = attempt()
        self._context.store.add_accuracy(self._context.sweep_id, cell.key, outcome)
        if outcome.failure and outcome.failure.failure_class in DEVICE_GONE:
            self._await_device(outcome.failure)
            self._context.store.add_accuracy(self._context.sweep_id, cell.key, attempt())

    def _measure(self, planned: PlannedInvocation) -> None:
        """Make one invocation; where the device went away meanwhile, wait for it and make it once more."""
        outcome = self._invoke_and_store(planned)
        if outcome.failure and outcome.failure.failure_class in DEVICE_GONE:
            self._await_device(outcome.failure)
            outcome = self._invoke_and_store(planned)
        failure = outcome.failure
        if failure is None:
            return
        key = planned.cell.key
        self._failures[key] += 1
        if failure.failure_class in HOPELESS or self._failures[key] >= FAILURES_BEFORE_GIVING_UP:
            self._hopeless.add(key)
        if failure.failure_class is FailureClass.TIMEOUT:
            self._await_device(failure)  # a hung phone looks like a slow tool: see whether it still answers

    def _invoke_and_store(self, planned: PlannedInvocation) -> Invocation:
        measurement, cell = self._context.spec.measurement, planned.cell
        request = InvocationRequest(
            model=self._paths[cell.variant_name],
            delegate=cell.delegate,
            threads=cell.threads,
            purpose=planned.purpose,
            runs=measurement.runs,
            warmup_min_s=measurement.warmup_min_s,
        )
        # One look stands between two invocations: it is the first one's after and the second one's before.
        before, started_at = self._last_look or self._telemetry(), datetime.now(UTC)
        outcome = invoke(
            self._device, self._tool, self._tool_path, request, timeout_s=measurement.timeout_s,
            core_mask=cell.core_mask,
        )  # fmt: skip
        self._store(planned, outcome, before, started_at)
        return outcome

    def _store(
        self,
        planned: PlannedInvocation,
        invocation: Invocation,
        before: dict[str, object] | None,
        started_at: datetime | None = None,
    ) -> None:
        lost = invocation.failure is not None and invocation.failure.failure_class in DEVICE_GONE
        self._last_look = None if lost else self._telemetry()
        self._context.store.add_invocation(
            self._context.sweep_id,
            planned.cell.key,
            purpose=planned.purpose,
            index=planned.index,
            block=planned.block,
            invocation=invocation,
            started_at=started_at or datetime.now(UTC),
            telemetry_before=before,
            telemetry_after=self._last_look,
        )

    def _telemetry(self) -> dict[str, object] | None:
        """Look at the device; one that does not answer is found out by the invocation itself."""
        try:
            return read_telemetry(self._device).as_dict()
        except DeviceError:
            return None

    def _await_device(self, failure: Failure) -> None:
        """Wait until the device answers again. Raises `DeviceError` when it does not in the time that is given."""
        self._context.observer.note(f"{failure.message} Waiting for it.")
        deadline = time.monotonic() + self._context.spec.reconnect_wait_s
        await_device(self._device, deadline=deadline, stop=self._context.stop, failure=failure)
