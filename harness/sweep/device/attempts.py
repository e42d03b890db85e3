"""Make one invocation, retry it by the rules, and store every attempt before the next one starts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.errors import DeviceError, Failure
from harness.store.records import Cell
from harness.store.rows import FinishedInvocation
from harness.sweep.device.gated_tool import GatedInvocation
from harness.sweep.device.ready import ReadyDevice
from harness.sweep.device.state import DeviceState
from harness.sweep.plan import PlannedInvocation
from harness.sweep.retry import RULES, Remedy, RetryPolicy

SHUT_GATES_BEFORE_GIVING_UP = 2


def make_invocation(
    ready: ReadyDevice,
    state: DeviceState,
    planned: PlannedInvocation,
    request: InvocationRequest,
    *,
    policy: RetryPolicy = RetryPolicy.ALL,
) -> Invocation | None:
    """Make an invocation and repeat it while `policy` and the rules allow (promise H3 among them).

    Returns the last attempt; None if the user interrupted before one could start. Raises `DeviceError` if the device
    repeatedly does not cool, and whatever `DeviceRecovery.recover` raises.
    """
    recovery, stop = ready.recovery, ready.context.stop
    tries = recovery.tries(f"{planned.cell.key}/{planned.purpose}/{planned.index}", policy)
    while not stop.is_set():
        ready.progress.running(planned.cell, planned.purpose, planned.index)
        is_gated = planned.purpose is not Pass.SUSTAINED or planned.index == 0
        gated = ready.gated_tool.invoke(request, planned.cell.core_mask, gated=is_gated)
        if not gated.gate.open and stop.is_set():
            return None
        _store_gated(ready, state, planned, request, gated)
        failure = gated.invocation.failure
        pause_s = tries.failed(failure.failure_class) if failure and gated.gate.open else None
        ready.progress.finished(gated, is_made_again=pause_s is not None)
        _count_shut_gates(state, gated)
        if failure is None:
            return gated.invocation
        _note(ready, planned.cell, gated, failure, is_made_again=pause_s is not None)
        recovery.recover(failure)
        if pause_s is None:
            return gated.invocation
        recovery.pause(pause_s)
    return None


def _note(ready: ReadyDevice, cell: Cell, gated: GatedInvocation, failure: Failure, *, is_made_again: bool) -> None:
    """Report what follows from a failure that the device survived; `DeviceRecovery` reports a lost device."""
    if gated.throttled:
        next_step = "Repeating it once the phone is cool." if is_made_again else "Giving up on it."
    elif RULES[failure.failure_class].remedy is Remedy.LOOK and is_made_again:
        next_step = "Repeating it once."
    else:
        return
    ready.context.observer.note(
        f"{ready.device.serial}: {cell.variant_name} {cell.delegate}: {failure.message} {next_step}"
    )


def _count_shut_gates(state: DeviceState, gated: GatedInvocation) -> None:
    state.shut_gates = 0 if gated.gate.open else state.shut_gates + 1
    if state.shut_gates >= SHUT_GATES_BEFORE_GIVING_UP and gated.invocation.failure:
        raise DeviceError(gated.invocation.failure)


def _store_gated(
    ready: ReadyDevice,
    state: DeviceState,
    planned: PlannedInvocation,
    request: InvocationRequest,
    gated: GatedInvocation,
) -> None:
    label_if = {"throttled": gated.throttled, "hot": gated.gate.open and not gated.gate.cool}
    labels = [label for label, holds in label_if.items() if holds]
    store_attempt(ready, state, planned, gated.invocation, gated.started_at, gated, labels, request.warmup_runs)


def store_attempt(
    ready: ReadyDevice,
    state: DeviceState,
    planned: PlannedInvocation,
    invocation: Invocation,
    started_at: datetime,
    gated: GatedInvocation | None = None,
    labels: Sequence[str] = (),
    warmup_runs: int | None = None,
) -> None:
    """Store an attempt; `gated` is None if nothing was run."""
    warm_up = state.warm_ups.get(planned.cell.key)
    ready.context.store.add_invocation(
        ready.context.sweep_id,
        planned.cell.key,
        FinishedInvocation(
            purpose=planned.purpose,
            index=planned.index,
            block=planned.block,
            invocation=invocation,
            started_at=started_at,
            telemetry_before=gated.before.as_dict() if gated and gated.before else None,
            telemetry_during=gated.during.as_dict() if gated and gated.during else None,
            telemetry_after=gated.after.as_dict() if gated and gated.after else None,
            gate=gated.gate.as_dict() if gated else None,
            labels=labels,
            warmup_asked_runs=warmup_runs,
            warmup_converged=warm_up.converged if warm_up else None,
        ),
    )
