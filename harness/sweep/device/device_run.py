"""Measure all cells of one device, come what may: each failure is stored with its class and the rest goes on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.program import push_tool
from harness.benchmark.registry import with_flags
from harness.benchmark.tool import Tool
from harness.devices.cores import choose_measured_cores
from harness.devices.device import Device, DeviceFacts, DeviceKind
from harness.devices.preparation.knobs import knobs_of
from harness.devices.preparation.preparation import Preparation
from harness.devices.profiles import match_profile
from harness.devices.state.labels import preflight_labels
from harness.devices.state.reference_workload import ReferenceWorkload
from harness.devices.state.telemetry import read_telemetry
from harness.devices.state.thermal_gate import ThermalGate, ThermalLimits
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass
from harness.spec.profile import DeviceProfile
from harness.spec.sweep import MeasurementSettings
from harness.store.records import Cell
from harness.sweep.context import SweepContext
from harness.sweep.device.attempts import Attempts
from harness.sweep.device.cell_setup import CellSetup, WarmUp, default_warm_up, stored_searches
from harness.sweep.device.gated_tool import GatedTool
from harness.sweep.device.output_checks import OutputChecks
from harness.sweep.device.progress import DeviceProgress, StepKind
from harness.sweep.device.recovery import DeviceRecovery
from harness.sweep.device.sustained import sustain
from harness.sweep.plan import PlannedInvocation, is_unfinished, measured_by, mode_of, plan_groups, window_count
from harness.sweep.resume import InvocationKey, ResumeState, labels_so_far, read_state, require_same_system
from harness.sweep.retry import RULES, from_outside, nothing
from harness.sweep.stopping import Stopping
from harness.tflite.variant import Variant


class DeviceRun:
    """One device of a sweep, from its facts to its last invocation."""

    def __init__(
        self,
        context: SweepContext,
        device: Device,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        """`clock` and `sleep` time the waits for a cool device; by default an interrupted sweep ends them."""
        self._context = context
        self._device = device
        self._clock = clock
        self._sleep = sleep or context.stop.wait
        self._abandoned: set[str] = set()
        """Keys of cells of which no more is run."""
        self._warm_ups: dict[str, WarmUp] = {}
        """What was found for a cell, by its key."""
        self._recovery = DeviceRecovery(context, device)
        self._was_begun: bool | None = None
        """Whether earlier sittings of this sweep measured anything on the device; None: nobody has looked yet."""
        self._paths: dict[str, str] = {}
        """Where variants lie on the device, by name."""
        self._next_block = 0
        """Blocks are counted on over shares and waves: only what was measured in turns shares one."""

    def run(self) -> None:
        """Prepare the device, measure every cell, give the device back as it was.

        Raises `DeviceError` when the device cannot be used, does not cool, or is gone for good.
        """
        facts = self._recovery.retry(self._device.facts, "facts")
        profile = match_profile(facts)
        is_prepared = self._context.spec.prepare and facts.kind is not DeviceKind.HOST
        knobs = knobs_of(profile.prepare) if is_prepared else []
        self._preparation = Preparation(
            self._device, knobs, report=self._context.observer.warn, wait_until_back=self._recovery.wait_until_back
        )
        try:
            with ExitStack() as stack:
                self._recovery.retry(lambda: stack.enter_context(self._preparation), "preparation")
                self._recovery.preparation = self._preparation
                self._run_prepared(facts, profile)
        finally:
            self._store_preparation()

    def _store_preparation(self) -> None:
        serial = self._device.serial
        state = self._preparation.as_dict() | self._context.faults.as_dict(serial) | {"host": self._context.host}
        self._context.store.set_preparation(self._context.sweep_id, serial, state)

    def _run_prepared(self, facts: DeviceFacts, profile: DeviceProfile) -> None:
        store, sweep_id = self._context.store, self._context.sweep_id
        self._progress = self._recovery.progress = DeviceProgress(self._context.observer, facts)
        self._profile = profile
        require_same_system(store, sweep_id, facts)
        before = labels_so_far(store, sweep_id, facts.serial)
        state = self._recovery.retry(lambda: read_telemetry(self._device), "state")
        store.add_device(sweep_id, facts, profile.name, preflight_labels(facts, state) + before)
        self._store_preparation()
        chosen = self._context.registry.choose(facts)
        self._tool = self._recovery.retry(lambda: self._ready_tool(chosen), "tool")
        store.add_tool(sweep_id, self._tool)
        self._measured_cores = self._recovery.retry(lambda: choose_measured_cores(self._device, profile.cores), "cores")
        if self._measured_cores.reason and facts.kind is not DeviceKind.HOST:
            self._context.observer.note(self._measured_cores.reason)
        self._attempts = Attempts(
            self._context, self._device, self._guarded_tool(), self._recovery, self._progress, self._warm_ups
        )
        self._checks = OutputChecks(
            self._context, self._device, self._tool, self._tool_path, self._recovery, self._progress
        )
        measurement = measured_by(self._tool, self._context.spec.measurement)
        try:
            self._begin_with_ready(facts, measurement)
            is_complete = self._context.variants.wait_for_all()
            cells = [cell for variant in self._context.variants.ready for cell in self._cells(variant)]
            if not is_complete:  # the sweep was stopped: what is known of it is what a resumed one is told of
                self._add_cells(cells)
                return
            self._take_up(cells, measurement)
            with closing(self._context.scheduling.shares(facts, cells, measurement)) as shares:
                for share in shares:
                    self._measure_share(share, measurement)
        finally:
            self._progress.ended()

    def _cells(self, variant: Variant) -> list[Cell]:
        return [
            self._cell(variant, delegate, threads)
            for delegate in self._context.spec.delegates or self._profile.delegates
            for threads in self._context.spec.threads
        ]

    def _add_cells(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self._context.store.add_cell(self._context.sweep_id, cell)

    def _begin_with_ready(self, facts: DeviceFacts, measurement: MeasurementSettings) -> None:
        """Lay the ground of the variants that are ready, while others are still being made.

        Their blocks wait for the others, since all variants take turns. Only a phone may do that: what is computed on
        this or another computer would share its cores with the making. And only one that measures all of its cells.
        """
        variants = self._context.variants
        if variants.is_open:
            self._progress.waiting()
        if facts.kind is not DeviceKind.PHONE or self._context.spec.per == "model":
            return
        for variant in variants.as_they_come():
            cells = [cell for cell in self._cells(variant) if not self._measured_cores.refuses(cell.threads)]
            if not cells or self._push(variant):
                continue  # why is told with the blocks
            unfinished = {cell.key for cell in cells} - self._look_back(cells, measurement).finished
            self._add_cells(cells)
            self._plan_progress(cells, (), unfinished, windows=0)
            self._lay_all_ground(cells, unfinished)
            self._progress.waiting()

    def _look_back(self, cells: Sequence[Cell], measurement: MeasurementSettings) -> ResumeState:
        """Return what earlier sittings of this sweep left of some cells."""
        evidence = self._context.evidence
        self._earlier = read_state(
            self._context.store,
            self._context.sweep_id,
            cells,
            measurement,
            evidence_sha256=evidence.sha256 if evidence else None,
        )
        self._abandoned |= self._earlier.abandoned
        self._was_begun = self._earlier.is_any if self._was_begun is None else self._was_begun
        return self._earlier

    def _take_up(self, cells: Sequence[Cell], measurement: MeasurementSettings) -> None:
        """Go on where earlier sittings of this sweep ended, and say what they left."""
        context = self._context
        earlier = self._look_back(cells, measurement)
        self._next_block = earlier.next_block
        if not self._was_begun:
            return
        context.store.set_aside(context.sweep_id, earlier.set_aside, planned={cell.key for cell in cells})
        told = earlier.sentence(self._device.serial, is_shared=context.spec.per == "model")
        for sentence in [told, *earlier.reasons(self._device.serial)]:
            context.observer.note(sentence)

    def _measure_share(self, cells: Sequence[Cell], measurement: MeasurementSettings) -> None:
        self._add_cells(cells)
        waves = plan_groups(
            self._context.waves(cells), measurement, seed=self._context.spec.seed, first_block=self._next_block
        )
        planned = [invocation for wave in waves for invocation in wave.invocations]
        self._next_block = 1 + max((invocation.block for invocation in planned), default=self._next_block - 1)
        self._refuse_too_many_threads(cells, planned)
        self._push_variants(cells, planned)
        for wave in waves:
            self._measure_all(wave.cells, wave.invocations)

    def _guarded_tool(self) -> GatedTool:
        cores = self._measured_cores.cores
        is_host = self._device.kind is DeviceKind.HOST
        workload = None if is_host else ReferenceWorkload(self._device, self._measured_cores.mask, clock=self._clock)
        gate = ThermalGate(
            self._device,
            ThermalLimits.of(self._profile),
            cores,
            clock=self._clock,
            sleep=self._sleep,
            tell=self._progress.cooling,
            workload=workload,
        )
        timeout_s = self._context.spec.measurement.timeout_s
        return GatedTool(
            self._device,
            self._tool,
            self._tool_path,
            gate,
            cores,
            timeout_s=timeout_s,
            sample=not is_host,
        )

    def _ready_tool(self, tool: Tool) -> Tool:
        """Bring the tool to the device; a binary that was never asked for its flags is asked now."""
        self._tool_path = push_tool(self._device, tool)
        return with_flags(tool, self._context.registry, self._device, self._tool_path)

    def _cell(self, variant: Variant, delegate: str, threads: int) -> Cell:
        return Cell(
            variant_sha256=variant.sha256,
            variant_name=variant.name,
            serial=self._device.serial,
            delegate=delegate,
            threads=threads,
            tool_sha256=self._tool.sha256,
            core_mask=self._measured_cores.mask,
            profile=self._profile.name,
            mode={**mode_of(self._context.spec.measurement), "prepared": self._preparation.labels},
        )

    def _push_variants(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        """Push every variant; one that does not arrive fails its cells."""
        for name in dict.fromkeys(cell.variant_name for cell in cells):
            if failure := self._push(self._context.variants.named(name)):
                self._fail_cells([cell for cell in cells if cell.variant_name == name], planned, failure)

    def _push(self, variant: Variant) -> Failure | None:
        """Push a variant; return why it does not arrive. Raises `DeviceError` when the device itself is gone."""
        try:
            self._paths[variant.name] = self._recovery.retry(
                functools.partial(self._device.push, variant.path), f"push {variant.name}"
            )
        except DeviceError as error:
            if error.failure.failure_class in DEVICE_GONE:
                raise
            return error.failure
        return None

    def _refuse_too_many_threads(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        """Fail the cells that ask for more threads than there are equal cores: they would wait for one another."""
        for cell in cells:
            if reason := self._measured_cores.refuses(cell.threads):
                self._fail_cells([cell], planned, Failure(FailureClass.CORES_UNAVAILABLE, reason))

    def _fail_cells(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation], failure: Failure) -> None:
        keys = {cell.key for cell in cells} - self._abandoned
        self._abandoned |= keys
        for invocation in planned:
            if invocation.cell.key in keys and invocation.index == 0:
                self._attempts.store(invocation, Invocation((), "", 0.0, failure=failure), datetime.now(UTC))

    def _measure_all(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        measurement = self._context.spec.measurement
        done = self._done()
        self._stopping = Stopping(measurement, self._context.store.invocations(self._context.sweep_id))
        unfinished = {place.cell.key for place in planned if (place.cell.key, place.purpose, place.index) not in done}
        self._plan_progress(cells, planned, unfinished, window_count(measurement))
        self._lay_all_ground(cells, unfinished)
        for invocation in planned:
            if self._context.stop.is_set():
                return
            cell = invocation.cell
            is_open = (cell.key, invocation.purpose, invocation.index) not in done and cell.key not in self._abandoned
            if is_open and not self._stopping.is_enough(invocation):
                self._measure(invocation)
            self._progress.step_done(cell, StepKind.PROCESS, self._stopping.latencies_us(invocation))
        self._sustain_all(cells, done)

    def _done(self) -> set[InvocationKey]:
        return self._context.store.done(self._context.sweep_id) - self._earlier.reopened

    def _checked(self) -> set[str]:
        return self._context.store.done_accuracies(self._context.sweep_id) - self._earlier.stale_checks

    def _plan_progress(
        self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation], unfinished: Collection[str], windows: int
    ) -> None:
        self._progress.plan(
            cells,
            planned,
            windows=windows,
            done=self._done(),
            set_up=self._checked().difference(unfinished),
            abandoned=self._abandoned,
            may_end_early=self._context.spec.measurement.interval_width > 0,
            may_grow=self._context.spec.per == "model" or self._context.variants.is_open,
        )

    def _lay_all_ground(self, cells: Sequence[Cell], unfinished: Collection[str]) -> None:
        """Find out of each cell what needs no turns: how it loads and warms up, and what its outputs are."""
        done, checked = self._done(), self._checked()
        self._searches = stored_searches(self._context.store, self._context.sweep_id)
        for cell in cells:
            if self._context.stop.is_set():
                return
            if cell.key in unfinished and cell.key not in self._abandoned:
                self._lay_ground(cell, done)
            if cell.key not in checked and cell.key not in self._abandoned and not self._context.stop.is_set():
                self._checks.check(cell, self._paths[cell.variant_name])
            self._progress.step_done(cell, StepKind.SETUP)

    def _sustain_all(self, cells: Sequence[Cell], done: Collection[tuple[str, Pass, int]]) -> None:
        """Run each cell for minutes, where that was asked for. A phone that goes away ends the run of its cell."""
        measurement = self._context.spec.measurement
        for cell in cells:
            if self._context.stop.is_set():
                return
            if cell.key in self._abandoned or not is_unfinished(cell, measurement, done):
                continue
            try:
                sustain(cell, self._device, self._tool, measurement, request=self._request, invoke=self._invoke_window)
            except DeviceError as error:
                self._recovery.recover(error.failure)

    def _invoke_window(self, planned: PlannedInvocation, request: InvocationRequest) -> Invocation | None:
        outcome = self._attempts.make(planned, request, worth=nothing)  # half a run cannot be carried on
        self._progress.step_done(planned.cell, StepKind.WINDOW)
        return outcome

    def _lay_ground(self, cell: Cell, done: Collection[tuple[str, Pass, int]]) -> None:
        """Find out how a cell loads and how long it warms up, before anything else of it is run."""
        measurement = self._context.spec.measurement
        invoke = functools.partial(self._attempts.make, worth=from_outside)  # the latency pass decides of the rest
        ground = CellSetup(self._device, self._tool, measurement, self._request, invoke)
        try:
            ground.load_cold_and_warm(cell, done)
        except DeviceError as error:
            self._recovery.recover(error.failure)
        if cell.key not in self._warm_ups and measurement.warmup_max_s:
            self._warm_ups[cell.key] = ground.warm_up(cell, self._searches.get(cell.key, {}))

    def _measure(self, planned: PlannedInvocation) -> None:
        """Make one invocation, and give its cell up where that shows that it cannot work."""
        outcome = self._attempts.make(planned, self._request(planned))
        if outcome:
            self._stopping.note(planned, outcome)
        failure = outcome.failure if outcome else None
        if failure and RULES[failure.failure_class].ends_cell:
            self._abandoned.add(planned.cell.key)
            self._progress.abandoned(planned.cell)

    def _request(self, planned: PlannedInvocation) -> InvocationRequest:
        measurement, cell = self._context.spec.measurement, planned.cell
        warm_up = self._warm_ups.get(cell.key) or default_warm_up(measurement.warmup_min_s)
        return InvocationRequest(
            model=self._paths[cell.variant_name],
            delegate=cell.delegate,
            threads=cell.threads,
            purpose=planned.purpose,
            runs=measurement.runs,
            warmup_runs=warm_up.runs,
            warmup_min_s=warm_up.min_s,
            require_full_delegation=self._context.spec.require_full_delegation,
        )
