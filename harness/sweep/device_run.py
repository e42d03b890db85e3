"""Measure all cells of one device, come what may: each failure is stored with its class and the rest goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.accuracy.on_device import AccuracyTarget, Evidence, measure_accuracy
from harness.accuracy.outcome import AccuracyOutcome
from harness.benchmark.measurement import Invocation, InvocationRequest, Pass
from harness.benchmark.probe import probe_flags
from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool
from harness.compression.variant import Variant
from harness.devices.base import Device, DeviceFacts, DeviceKind
from harness.devices.core_mask import choose_measured_cores
from harness.devices.discovery import await_device
from harness.devices.knobs import knobs_of
from harness.devices.labels import preflight_labels
from harness.devices.preparation import Preparation
from harness.devices.profiles import match_profile
from harness.devices.reference_workload import ReferenceWorkload
from harness.devices.telemetry import read_telemetry
from harness.devices.thermal_gate import ThermalGate, ThermalLimits
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass
from harness.progress import Observer
from harness.results.records import Cell
from harness.results.store import Store
from harness.spec.profile import DeviceProfile
from harness.spec.sweep import Measurement, SweepSpec
from harness.sweep.carrying_on import labels_so_far, look_back, require_same_system
from harness.sweep.device_progress import DeviceProgress
from harness.sweep.giving_up import FAILURES_BEFORE_GIVING_UP, HOPELESS
from harness.sweep.groundwork import Groundwork
from harness.sweep.guarded import GuardedInvocation, GuardedTool
from harness.sweep.plan import PlannedInvocation, Waves, at_once, measured_by, mode_of, plan_waves
from harness.sweep.remaining_time import StepKind
from harness.sweep.scheduling import EachDevice, Scheduling
from harness.sweep.stopping import Stopping
from harness.sweep.sustained import is_unfinished, sustain, window_count
from harness.sweep.warm_up import StoredWindows, WarmUp, untested

SHUT_GATES_BEFORE_GIVING_UP = 2
MOST_REDOS = 2
"""How often a throttled invocation is made again."""


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
    scheduling: Scheduling = field(default_factory=EachDevice)
    waves: Waves = at_once


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
        self._failures: Counter[str] = Counter()
        """Failed invocations by cell key, to give up on a cell that cannot work."""
        self._hopeless: set[str] = set()
        self._warm_ups: dict[str, WarmUp] = {}
        """What was found for a cell, by its key."""
        self._gates_shut = 0
        """Invocations in a row that could not start, since the device did not cool."""
        self._next_block = 0
        """Blocks are counted on over shares and waves: only what was measured in turns shares one."""

    def run(self) -> None:
        """Prepare the device, measure every cell, give the device back as it was.

        Raises `DeviceError` when the device cannot be used, does not cool, or is gone for good.
        """
        facts = self._device.facts()
        profile = match_profile(facts)
        is_prepared = self._context.spec.prepare and facts.kind is not DeviceKind.HOST
        knobs = knobs_of(profile.prepare) if is_prepared else []
        self._preparation = Preparation(self._device, knobs, report=self._context.observer.warn)
        try:
            with self._preparation:
                self._run_prepared(facts, profile)
        finally:
            self._store_preparation()

    def _store_preparation(self) -> None:
        self._context.store.set_preparation(self._context.sweep_id, self._device.serial, self._preparation.as_dict())

    def _run_prepared(self, facts: DeviceFacts, profile: DeviceProfile) -> None:
        store, sweep_id = self._context.store, self._context.sweep_id
        self._progress = DeviceProgress(self._context.observer, facts)
        self._profile = profile
        require_same_system(store, sweep_id, facts)
        before = labels_so_far(store, sweep_id, facts.serial)
        store.add_device(sweep_id, facts, profile.name, preflight_labels(facts, read_telemetry(self._device)) + before)
        self._store_preparation()
        self._tool = self._ready_tool(self._context.registry.choose(facts))
        store.add_tool(sweep_id, self._tool)
        self._measured_cores = choose_measured_cores(self._device, profile.cores)
        if self._measured_cores.reason and facts.kind is not DeviceKind.HOST:
            self._context.observer.note(self._measured_cores.reason)
        self._guarded = self._guarded_tool()
        cells = [self._cell(variant, delegate, threads)
                 for variant in self._context.variants
                 for delegate in self._context.spec.delegates or profile.delegates
                 for threads in self._context.spec.threads]  # fmt: skip
        measurement = measured_by(self._tool, self._context.spec.measurement)
        self._take_up(cells, measurement)
        try:
            with closing(self._context.scheduling.shares(facts, cells, measurement)) as shares:
                for share in shares:
                    self._measure_share(share, measurement)
        finally:
            self._progress.ended()

    def _take_up(self, cells: Sequence[Cell], measurement: Measurement) -> None:
        """Go on where earlier sittings of this sweep ended, and say what they left."""
        context = self._context
        evidence_sha256 = context.evidence.sha256 if context.evidence else None
        earlier = self._earlier = look_back(
            context.store, context.sweep_id, cells, measurement, evidence_sha256=evidence_sha256
        )  # fmt: skip
        self._next_block = earlier.next_block
        self._failures.update({key: len(failures) for key, failures in earlier.failures.items()})
        self._hopeless |= earlier.given_up
        if not earlier.is_any:
            return
        context.store.set_aside(context.sweep_id, earlier.set_aside, planned={cell.key for cell in cells})
        for sentence in [earlier.sentence(self._device.serial), *earlier.reasons(self._device.serial)]:
            context.observer.note(sentence)

    def _measure_share(self, cells: Sequence[Cell], measurement: Measurement) -> None:
        for cell in cells:
            self._context.store.add_cell(self._context.sweep_id, cell)
        waves = plan_waves(
            self._context.waves(cells), measurement, seed=self._context.spec.seed, first_block=self._next_block
        )
        planned = [invocation for wave in waves for invocation in wave.invocations]
        self._next_block = 1 + max((invocation.block for invocation in planned), default=self._next_block - 1)
        self._refuse_too_many_threads(cells, planned)
        self._paths = self._push_variants(cells, planned)
        for wave in waves:
            self._measure_all(wave.cells, wave.invocations)

    def _guarded_tool(self) -> GuardedTool:
        cores = self._measured_cores.cores
        is_host = self._device.kind is DeviceKind.HOST
        workload = None if is_host else ReferenceWorkload(self._device, self._measured_cores.mask, clock=self._clock)
        gate = ThermalGate(
            self._device, ThermalLimits.of(self._profile), cores, clock=self._clock, sleep=self._sleep,
            tell=self._progress.cooling, workload=workload,
        )  # fmt: skip
        timeout_s = self._context.spec.measurement.timeout_s
        return GuardedTool(
            self._device, self._tool, self._tool_path, gate, cores, timeout_s=timeout_s,
            sample=not is_host,
        )  # fmt: skip

    def _ready_tool(self, tool: Tool) -> Tool:
        """Bring the tool to the device; a binary that was never asked for its flags is asked now."""
        self._tool_path = self._device.push(tool.path)
        if tool.flags is None:
            tool = self._context.registry.remember_flags(tool, probe_flags(self._device, tool, self._tool_path))
        return tool

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

    def _push_variants(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> dict[str, str]:
        """Push every variant; one that does not arrive fails its cells, unless the device itself is gone."""
        paths: dict[str, str] = {}
        wanted = {cell.variant_name for cell in cells}
        for variant in (variant for variant in self._context.variants if variant.name in wanted):
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
        keys = {cell.key for cell in cells} - self._hopeless
        self._hopeless |= keys
        for invocation in planned:
            if invocation.cell.key in keys and invocation.index == 0:
                self._store(invocation, Invocation((), "", 0.0, failure=failure), datetime.now(UTC))

    def _measure_all(self, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]) -> None:
        store, sweep_id, measurement = self._context.store, self._context.sweep_id, self._context.spec.measurement
        checked = store.done_accuracies(sweep_id) - self._earlier.stale_checks
        done = store.done(sweep_id) - self._earlier.reopened
        unfinished = {place.cell.key for place in planned if (place.cell.key, place.purpose, place.index) not in done}
        self._searches = self._stored_searches()
        self._stopping = Stopping(measurement, store.invocations(sweep_id))
        self._progress.plan(
            cells, planned, windows=window_count(measurement), done=done, grounded=checked - unfinished,
            given_up=self._hopeless, may_end_early=measurement.interval_width > 0,
            may_grow=self._context.spec.per == "model",
        )  # fmt: skip
        for cell in cells:
            if self._context.stop.is_set():
                return
            if cell.key in unfinished and cell.key not in self._hopeless:
                self._lay_ground(cell, done)
            if cell.key not in checked and cell.key not in self._hopeless and not self._context.stop.is_set():
                self._measure_accuracy(cell)
            self._progress.step_done(cell, StepKind.GROUND)
        for invocation in planned:
            if self._context.stop.is_set():
                return
            cell = invocation.cell
            is_open = (cell.key, invocation.purpose, invocation.index) not in done and cell.key not in self._hopeless
            if is_open and not self._stopping.is_enough(invocation):
                self._measure(invocation)
            self._progress.step_done(cell, StepKind.PROCESS, self._stopping.latencies_us(invocation))
        self._sustain_all(cells, done)

    def _sustain_all(self, cells: Sequence[Cell], done: Collection[tuple[str, Pass, int]]) -> None:
        """Run each cell for minutes, where that was asked for. A phone that goes away ends the run of its cell."""
        measurement = self._context.spec.measurement
        for cell in cells:
            if self._context.stop.is_set():
                return
            if cell.key in self._hopeless or not is_unfinished(cell, measurement, done):
                continue
            try:
                last = sustain(
                    cell, self._device, self._tool, measurement, request=self._request, invoke=self._invoke_window
                )
            except DeviceError as error:
                last = Invocation((), "", 0.0, failure=error.failure)
            if last and last.failure and last.failure.failure_class in DEVICE_GONE:
                self._await_device(last.failure)

    def _invoke_window(self, planned: PlannedInvocation, request: InvocationRequest) -> Invocation | None:
        outcome = self._invoke_until_cool(planned, request)
        self._progress.step_done(planned.cell, StepKind.WINDOW)
        return outcome

    def _measure_accuracy(self, cell: Cell) -> None:
        evidence = self._context.evidence
        if evidence is None or self._context.stop.is_set():
            return
        variant = next(variant for variant in self._context.variants if variant.name == cell.variant_name)
        target = AccuracyTarget(
            self._device, self._tool, self._tool_path, variant, self._paths[variant.name], cell.delegate, cell.threads,
            self._context.spec.measurement.timeout_s,
        )  # fmt: skip

        self._progress.running(cell, "accuracy")

        def attempt() -> AccuracyOutcome:
            return measure_accuracy(target, evidence)

        outcome = attempt()
        self._context.store.add_accuracy(self._context.sweep_id, cell.key, outcome)
        if outcome.failure and outcome.failure.failure_class in DEVICE_GONE:
            self._await_device(outcome.failure)
            self._context.store.add_accuracy(self._context.sweep_id, cell.key, attempt())

    def _stored_searches(self) -> dict[str, dict[int, StoredWindows]]:
        """Return what a sweep that is carried on saw of each cell's warm-up, by the place in the search.

        The search goes on from there, and ends at once where it had ended: all processes of a cell warm up alike.
        """
        rows = self._context.store.invocations(self._context.sweep_id)
        complete = rows[["warmup_runs", "warmup_window_us", "timed_window_us"]].notna().all(axis=1)
        seen = rows[(rows["purpose"] == Pass.WARM_UP) & rows["failure_class"].isna() & complete]
        searches: dict[str, dict[int, StoredWindows]] = {}
        for row in seen.to_dict("records"):
            windows = StoredWindows(int(row["warmup_runs"]), row["warmup_window_us"], row["timed_window_us"])
            searches.setdefault(row["cell_key"], {})[int(row["invocation_index"])] = windows
        return searches

    def _lay_ground(self, cell: Cell, done: Collection[tuple[str, Pass, int]]) -> None:
        """Find out how a cell loads and how long it warms up, before anything else of it is run."""
        measurement = self._context.spec.measurement
        ground = Groundwork(self._device, self._tool, measurement, self._request, self._invoke)
        try:
            ground.load_cold_and_warm(cell, done)
        except DeviceError as error:
            if error.failure.failure_class in DEVICE_GONE:
                self._await_device(error.failure)
        if cell.key not in self._warm_ups and measurement.warmup_max_s:
            self._warm_ups[cell.key] = ground.warm_up(cell, self._searches.get(cell.key, {}))

    def _invoke(self, planned: PlannedInvocation, request: InvocationRequest) -> Invocation | None:
        """Make one invocation; where the device went away meanwhile, wait for it and make it once more."""
        outcome = self._invoke_until_cool(planned, request)
        if outcome and outcome.failure and outcome.failure.failure_class in DEVICE_GONE:
            self._await_device(outcome.failure)
            outcome = self._invoke_until_cool(planned, request)
        return outcome

    def _measure(self, planned: PlannedInvocation) -> None:
        """Make one invocation, and give its cell up where that shows that it cannot work."""
        outcome = self._invoke(planned, self._request(planned))
        if outcome:
            self._stopping.note(planned, outcome)
        failure = outcome.failure if outcome else None
        if failure is None or failure.failure_class is FailureClass.THROTTLED:  # heat says nothing of the cell
            return
        key = planned.cell.key
        self._failures[key] += 1
        if failure.failure_class in HOPELESS or self._failures[key] >= FAILURES_BEFORE_GIVING_UP:
            self._hopeless.add(key)
            self._progress.given_up(planned.cell)
        if failure.failure_class is FailureClass.TIMEOUT:
            self._await_device(failure)  # a hung phone looks like a slow tool: see whether it still answers

    def _invoke_until_cool(self, planned: PlannedInvocation, request: InvocationRequest) -> Invocation | None:
        """Make an invocation again while the phone throttles, at most twice; every attempt is stored (promise H3).

        Returns the last attempt, None when the user interrupted before one could start. Raises `DeviceError` for a
        phone that does not cool, time after time.
        """
        for attempts_left in reversed(range(1 + MOST_REDOS)):
            if self._context.stop.is_set():
                return None
            self._progress.running(planned.cell, planned.purpose, planned.index)
            is_gated = planned.purpose is not Pass.SUSTAINED or planned.index == 0
            guarded = self._guarded.invoke(request, planned.cell.core_mask, gated=is_gated)
            if not guarded.gate.open and self._context.stop.is_set():
                return None
            self._store_guarded(planned, request, guarded)
            self._progress.finished(guarded, is_made_again=guarded.throttled and attempts_left > 0)
            self._count_shut_gates(guarded)
            if not guarded.throttled:
                break
            self._note_throttling(planned.cell, guarded, attempts_left)
        return guarded.invocation

    def _note_throttling(self, cell: Cell, guarded: GuardedInvocation, attempts_left: int) -> None:
        what_now = "It is done again once the phone is cool." if attempts_left else "It is given up."
        said = guarded.invocation.failure.message if guarded.invocation.failure else ""
        self._context.observer.note(f"{self._device.serial}: {cell.variant_name} {cell.delegate}: {said} {what_now}")

    def _count_shut_gates(self, guarded: GuardedInvocation) -> None:
        self._gates_shut = 0 if guarded.gate.open else self._gates_shut + 1
        if self._gates_shut >= SHUT_GATES_BEFORE_GIVING_UP and guarded.invocation.failure:
            raise DeviceError(guarded.invocation.failure)

    def _request(self, planned: PlannedInvocation) -> InvocationRequest:
        measurement, cell = self._context.spec.measurement, planned.cell
        warm_up = self._warm_ups.get(cell.key) or untested(measurement.warmup_min_s)
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

    def _store_guarded(
        self, planned: PlannedInvocation, request: InvocationRequest, guarded: GuardedInvocation
    ) -> None:
        label_if = {"throttled": guarded.throttled, "hot": guarded.gate.open and not guarded.gate.cool}
        labels = [label for label, holds in label_if.items() if holds]
        self._store(planned, guarded.invocation, guarded.started_at, guarded, labels, request.warmup_runs)

    def _store(
        self,
        planned: PlannedInvocation,
        invocation: Invocation,
        started_at: datetime,
        guarded: GuardedInvocation | None = None,
        labels: Sequence[str] = (),
        warmup_runs: int | None = None,
    ) -> None:
        warm_up = self._warm_ups.get(planned.cell.key)
        self._context.store.add_invocation(
            self._context.sweep_id,
            planned.cell.key,
            purpose=planned.purpose,
            index=planned.index,
            block=planned.block,
            invocation=invocation,
            started_at=started_at,
            telemetry_before=guarded.before.as_dict() if guarded and guarded.before else None,
            telemetry_during=guarded.during.as_dict() if guarded and guarded.during else None,
            telemetry_after=guarded.after.as_dict() if guarded and guarded.after else None,
            gate=guarded.gate.as_dict() if guarded else None,
            labels=labels,
            warmup_asked_runs=warmup_runs,
            warmup_converged=warm_up.converged if warm_up else None,
        )

    def _await_device(self, failure: Failure) -> None:
        """Wait until the device answers again. Raises `DeviceError` when it does not in the time that is given."""
        self._context.observer.note(f"{failure.message} Waiting for it.")
        self._progress.away(failure.message)
        deadline = time.monotonic() + self._context.spec.reconnect_wait_s
        await_device(self._device, deadline=deadline, stop=self._context.stop, failure=failure)
        self._preparation.renew()  # a restart undoes most of what was set
