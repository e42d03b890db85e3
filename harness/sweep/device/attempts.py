"""Make one invocation until it works or no further try can mend it, and store every attempt before the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.devices.device import Device
from harness.errors import DeviceError, Failure, FailureClass
from harness.store.records import Cell
from harness.store.rows import FinishedInvocation
from harness.sweep.context import SweepContext
from harness.sweep.device.cell_setup import WarmUp
from harness.sweep.device.gated_tool import GatedInvocation, GatedTool
from harness.sweep.device.progress import DeviceProgress
from harness.sweep.device.recovery import DeviceRecovery
from harness.sweep.plan import PlannedInvocation
from harness.sweep.retry import RULES, Remedy, anything

SHUT_GATES_BEFORE_GIVING_UP = 2


class Attempts:
    """The invocations of one device."""

    def __init__(
        self,
        context: SweepContext,
        device: Device,
        guarded: GatedTool,
        recovery: DeviceRecovery,
        progress: DeviceProgress,
        warm_ups: Mapping[str, WarmUp],
    ) -> None:
        """`warm_ups` holds what was found for a cell so far, by its key."""
        self._context = context
        self._device = device
        self._guarded = guarded
        self._recovery = recovery
        self._progress = progress
        self._warm_ups = warm_ups
        self._gates_shut = 0
        """Invocations in a row that could not start, since the device did not cool."""

    def make(
        self,
        planned: PlannedInvocation,
        request: InvocationRequest,
        *,
        worth: Callable[[FailureClass], bool] = anything,
    ) -> Invocation | None:
        """Make an invocation, again as long as its failure is `worth` it and the rules say so (promise H3 among them).

        Returns the last attempt, None when the user interrupted before one could start. Raises `DeviceError` for a
        device that does not cool, time after time, and what DeviceRecovery.recover` raises.
        """
        tries = self._recovery.tries(f"{planned.cell.key}/{planned.purpose}/{planned.index}", worth=worth)
        while not self._context.stop.is_set():
            self._progress.running(planned.cell, planned.purpose, planned.index)
            is_gated = planned.purpose is not Pass.SUSTAINED or planned.index == 0
            guarded = self._guarded.invoke(request, planned.cell.core_mask, gated=is_gated)
            if not guarded.gate.open and self._context.stop.is_set():
                return None
            self._store_guarded(planned, request, guarded)
            failure = guarded.invocation.failure
            pause_s = tries.failed(failure.failure_class) if failure and guarded.gate.open else None
            self._progress.finished(guarded, is_made_again=pause_s is not None)
            self._count_shut_gates(guarded)
            if failure is None:
                return guarded.invocation
            self._note(planned.cell, guarded, failure, is_made_again=pause_s is not None)
            self._recovery.recover(failure)
            if pause_s is None:
                return guarded.invocation
            self._recovery.pause(pause_s)
        return None

    def _note(self, cell: Cell, guarded: GatedInvocation, failure: Failure, *, is_made_again: bool) -> None:
        """Say what becomes of a failure that the phone came through; whoever waits for one that is away says so."""
        remedy = RULES[failure.failure_class].remedy
        if guarded.throttled:
            what_now = "It is done again once the phone is cool." if is_made_again else "It is given up."
        elif remedy is Remedy.LOOK and is_made_again:
            what_now = "It is done once more."
        else:
            return
        self._context.observer.note(
            f"{self._device.serial}: {cell.variant_name} {cell.delegate}: {failure.message} {what_now}"
        )

    def _count_shut_gates(self, guarded: GatedInvocation) -> None:
        self._gates_shut = 0 if guarded.gate.open else self._gates_shut + 1
        if self._gates_shut >= SHUT_GATES_BEFORE_GIVING_UP and guarded.invocation.failure:
            raise DeviceError(guarded.invocation.failure)

    def _store_guarded(self, planned: PlannedInvocation, request: InvocationRequest, guarded: GatedInvocation) -> None:
        label_if = {"throttled": guarded.throttled, "hot": guarded.gate.open and not guarded.gate.cool}
        labels = [label for label, holds in label_if.items() if holds]
        self.store(planned, guarded.invocation, guarded.started_at, guarded, labels, request.warmup_runs)

    def store(
        self,
        planned: PlannedInvocation,
        invocation: Invocation,
        started_at: datetime,
        guarded: GatedInvocation | None = None,
        labels: Sequence[str] = (),
        warmup_runs: int | None = None,
    ) -> None:
        """Store an attempt; without `guarded`, one that nothing was run for."""
        warm_up = self._warm_ups.get(planned.cell.key)
        self._context.store.add_invocation(
            self._context.sweep_id,
            planned.cell.key,
            FinishedInvocation(
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
            ),
        )
