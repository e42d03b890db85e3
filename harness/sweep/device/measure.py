"""Measure every cell on one device; store failures and continue."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime

from harness.benchmark.invocation import Invocation, InvocationRequest
from harness.devices.device import Device, DeviceKind
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass
from harness.store.records import Cell
from harness.sweep.context import SweepContext
from harness.sweep.device.attempts import make_invocation, store_attempt
from harness.sweep.device.cell_setup import CellSetup, StoredWindows, default_warm_up, stored_searches
from harness.sweep.device.output_checks import check_outputs
from harness.sweep.device.progress import StepKind
from harness.sweep.device.ready import ReadyDevice, ready_device
from harness.sweep.device.state import DeviceState
from harness.sweep.device.sustained import sustain
from harness.sweep.plan import PlannedGroup, PlannedInvocation, is_unfinished, plan_groups, window_count
from harness.sweep.resume import InvocationKey
from harness.sweep.retry import RULES, RetryPolicy
from harness.sweep.stopping import Stopping
from harness.tflite.variant import Variant


def measure_cells(
    context: SweepContext,
    device: Device,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
) -> None:
    """Prepare a device, measure every cell on it, and restore the device.

    `clock` and `sleep` are as for `ready_device`. Raises `DeviceError` if the device cannot be used, does not cool, or
    is gone for good.
    """
    with ready_device(context, device, clock=clock, sleep=sleep) as ready:
        state = DeviceState.resumed(ready, ready.cells_of(*context.variants.ready))
        set_up_early(ready, state)
        is_complete = context.variants.wait_for_all()
        cells = ready.cells_of(*context.variants.ready)
        if not is_complete:  # the sweep was stopped: a resumed one needs to know these cells
            _add_cells(ready, cells)
            return
        _resume(ready, state, cells)
        with closing(context.scheduling.claims(ready.facts, cells, ready.planned_measurement)) as claims:
            for claim in claims:
                measure_claim(ready, state, claim)


def measure_claim(ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell]) -> None:
    """Measure the cells that this device took, group after group."""
    context = ready.context
    _add_cells(ready, cells)
    groups = plan_groups(
        context.groups(cells), ready.planned_measurement, seed=context.spec.seed, first_block=state.next_block
    )
    planned = [invocation for group in groups for invocation in group.invocations]
    state.next_block = 1 + max((invocation.block for invocation in planned), default=state.next_block - 1)
    refuse_too_many_threads(ready, state, cells, planned)
    push_variants(ready, state, cells, planned)
    for group in groups:
        done = state.done()
        unfinished = {
            place.cell.key for place in group.invocations if (place.cell.key, place.purpose, place.index) not in done
        }
        windows = window_count(context.spec.measurement)
        _plan_progress(ready, state, group, unfinished, windows)
        set_up_cells(ready, state, group.cells, unfinished)
        measure_blocks(ready, state, group, done)
        measure_sustained(ready, state, group.cells, done)


def set_up_early(ready: ReadyDevice, state: DeviceState) -> None:
    """Set up the finished variants while the rest are still being compressed.

    Their blocks wait for the others because all variants are interleaved. Only a phone may do this: the host and a
    virtual phone would share their cores with the compression. And only a phone that measures all of its cells.
    """
    variants = ready.context.variants
    if variants.is_open:
        ready.progress.waiting()
    if ready.facts.kind is not DeviceKind.PHONE or ready.context.spec.per == "model":
        return
    for variant in variants.as_they_come():
        cells = [cell for cell in ready.cells_of(variant) if not ready.cores.refuses(cell.threads)]
        if not cells or _push(ready, state, variant):
            continue  # the reason is reported with the blocks
        unfinished = {cell.key for cell in cells} - state.read(cells).finished
        _add_cells(ready, cells)
        _plan_progress(ready, state, PlannedGroup(cells, ()), unfinished, windows=0)
        set_up_cells(ready, state, cells, unfinished)
        ready.progress.waiting()


def push_variants(
    ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]
) -> None:
    """Push every variant; fail the cells of one that does not arrive."""
    for name in dict.fromkeys(cell.variant_name for cell in cells):
        if failure := _push(ready, state, ready.context.variants.named(name)):
            _fail_cells(ready, state, [cell for cell in cells if cell.variant_name == name], planned, failure)


def refuse_too_many_threads(
    ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell], planned: Sequence[PlannedInvocation]
) -> None:
    """Fail the cells with more threads than equal cores: their threads would wait for one another."""
    for cell in cells:
        if reason := ready.cores.refuses(cell.threads):
            _fail_cells(ready, state, [cell], planned, Failure(FailureClass.CORES_UNAVAILABLE, reason))


def set_up_cells(ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell], unfinished: Collection[str]) -> None:
    """Run what needs no interleaving: cold and warm load, warm-up search, output check."""
    done, checked, stop = state.done(), state.checked(), ready.context.stop
    searches = stored_searches(ready.context.store, ready.context.sweep_id)
    for cell in cells:
        if stop.is_set():
            return
        if cell.key in unfinished and cell.key not in state.abandoned:
            _set_up(ready, state, cell, done, searches.get(cell.key, {}))
        if cell.key not in checked and cell.key not in state.abandoned and not stop.is_set():
            check_outputs(ready, cell, state.paths[cell.variant_name])
        ready.progress.step_done(cell, StepKind.SETUP)


def measure_blocks(
    ready: ReadyDevice, state: DeviceState, group: PlannedGroup, done: Collection[InvocationKey]
) -> None:
    """Make the invocations of a group in their planned order, without those that are done or not needed."""
    context = ready.context
    stopping = Stopping(context.spec.measurement, context.store.invocations(context.sweep_id))
    for invocation in group.invocations:
        if context.stop.is_set():
            return
        cell = invocation.cell
        is_open = (cell.key, invocation.purpose, invocation.index) not in done and cell.key not in state.abandoned
        if is_open and not stopping.is_enough(invocation):
            _measure(ready, state, invocation, stopping)
        ready.progress.step_done(cell, StepKind.PROCESS, stopping.latencies_us(invocation))


def measure_sustained(
    ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell], done: Collection[InvocationKey]
) -> None:
    """Run each cell for minutes if the spec asks for it. A device that goes away ends the run of its cell."""
    measurement = ready.context.spec.measurement

    def invoke_window(planned: PlannedInvocation, request: InvocationRequest) -> Invocation | None:
        # Half a run cannot be resumed, so a failed window is not repeated.
        outcome = make_invocation(ready, state, planned, request, policy=RetryPolicy.NONE)
        ready.progress.step_done(planned.cell, StepKind.WINDOW)
        return outcome

    for cell in cells:
        if ready.context.stop.is_set():
            return
        if cell.key in state.abandoned or not is_unfinished(cell, measurement, done):
            continue
        try:
            sustain(
                cell,
                ready.device,
                ready.tool,
                measurement,
                request=functools.partial(_request, ready, state),
                invoke=invoke_window,
            )
        except DeviceError as error:
            ready.recovery.recover(error.failure)


def _resume(ready: ReadyDevice, state: DeviceState, cells: Sequence[Cell]) -> None:
    """Continue after earlier sessions of this sweep, and report what they left."""
    context, serial = ready.context, ready.device.serial
    stored = state.read(cells)
    state.next_block = stored.next_block
    if not state.was_begun:
        return
    context.store.set_aside(context.sweep_id, stored.set_aside, planned={cell.key for cell in cells})
    summary = stored.sentence(serial, is_shared=context.spec.per == "model")
    for sentence in [summary, *stored.reasons(serial)]:
        context.observer.note(sentence)


def _add_cells(ready: ReadyDevice, cells: Sequence[Cell]) -> None:
    for cell in cells:
        ready.context.store.add_cell(ready.context.sweep_id, cell)


def _plan_progress(
    ready: ReadyDevice, state: DeviceState, group: PlannedGroup, unfinished: Collection[str], windows: int
) -> None:
    context = ready.context
    ready.progress.plan(
        group.cells,
        group.invocations,
        windows=windows,
        done=state.done(),
        set_up=state.checked().difference(unfinished),
        abandoned=state.abandoned,
        may_end_early=context.spec.measurement.interval_width > 0,
        may_grow=context.spec.per == "model" or context.variants.is_open,
    )


def _push(ready: ReadyDevice, state: DeviceState, variant: Variant) -> Failure | None:
    """Push a variant; return why it does not arrive. Raises `DeviceError` if the device itself is gone."""
    push = functools.partial(ready.device.push, variant.path)
    try:
        path = state.paths[variant.name] = ready.recovery.retry(push, f"push {variant.name}")
        ready.recovery.files.add(variant.sha256, {path: variant.path})
    except DeviceError as error:
        if error.failure.failure_class in DEVICE_GONE:
            raise
        return error.failure
    return None


def _fail_cells(
    ready: ReadyDevice,
    state: DeviceState,
    cells: Sequence[Cell],
    planned: Sequence[PlannedInvocation],
    failure: Failure,
) -> None:
    keys = {cell.key for cell in cells} - state.abandoned
    state.abandoned |= keys
    for invocation in planned:
        if invocation.cell.key in keys and invocation.index == 0:
            store_attempt(ready, state, invocation, Invocation((), "", 0.0, failure=failure), datetime.now(UTC))


def _set_up(
    ready: ReadyDevice,
    state: DeviceState,
    cell: Cell,
    done: Collection[InvocationKey],
    search: dict[int, StoredWindows],
) -> None:
    """Measure how a cell loads and how long it warms up, before anything else of it is run."""
    measurement = ready.context.spec.measurement
    # The latency pass decides whether the cell works, so its own failures are not worth another try here.
    invoke = functools.partial(make_invocation, ready, state, policy=RetryPolicy.EXTERNAL_ONLY)
    setup = CellSetup(ready.device, ready.tool, measurement, functools.partial(_request, ready, state), invoke)
    try:
        setup.load_cold_and_warm(cell, done)
    except DeviceError as error:
        ready.recovery.recover(error.failure)
    if cell.key not in state.warm_ups and measurement.warmup_max_s:
        state.warm_ups[cell.key] = setup.warm_up(cell, search)


def _measure(ready: ReadyDevice, state: DeviceState, planned: PlannedInvocation, stopping: Stopping) -> None:
    """Make one invocation; abandon its cell if the outcome shows that it cannot work."""
    outcome = make_invocation(ready, state, planned, _request(ready, state, planned))
    if outcome:
        stopping.note(planned, outcome)
    failure = outcome.failure if outcome else None
    if failure and RULES[failure.failure_class].ends_cell:
        state.abandoned.add(planned.cell.key)
        ready.progress.abandoned(planned.cell)


def _request(ready: ReadyDevice, state: DeviceState, planned: PlannedInvocation) -> InvocationRequest:
    measurement, cell = ready.context.spec.measurement, planned.cell
    warm_up = state.warm_ups.get(cell.key) or default_warm_up(measurement.warmup_min_s)
    return InvocationRequest(
        model=state.paths[cell.variant_name],
        delegate=cell.delegate,
        threads=cell.threads,
        purpose=planned.purpose,
        runs=measurement.runs,
        warmup_runs=warm_up.runs,
        warmup_min_s=warm_up.min_s,
        require_full_delegation=ready.context.spec.require_full_delegation,
    )
