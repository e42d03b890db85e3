"""What changes while one device is measured, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.store.records import Cell
from harness.sweep.device.cell_setup import WarmUp
from harness.sweep.device.ready import ReadyDevice
from harness.sweep.resume import InvocationKey, ResumeState, read_state


@dataclass
class DeviceState:
    """The progress of one device through its cells."""

    ready: ReadyDevice
    stored: ResumeState
    """What earlier sessions of this sweep left of the cells that were read last."""
    was_begun: bool | None
    """True if earlier sessions of this sweep measured anything on the device; None until any cell is read."""
    abandoned: set[str] = field(default_factory=set)
    """Keys of cells of which nothing more is run."""
    warm_ups: dict[str, WarmUp] = field(default_factory=dict)
    """The warm-up of each cell that has one, by key."""
    paths: dict[str, str] = field(default_factory=dict)
    """Paths of variants on the device, by name."""
    next_block: int = 0
    """Block numbers continue across claims and groups: only interleaved invocations share a block."""
    shut_gates: int = 0
    """Consecutive invocations that could not start because the device did not cool."""

    @classmethod
    def resumed(cls, ready: ReadyDevice, cells: Sequence[Cell]) -> DeviceState:
        """Start from what earlier sessions of this sweep stored of some cells."""
        stored = _read(ready, cells)
        return cls(ready, stored, stored.is_any if cells else None, set(stored.abandoned))

    def read(self, cells: Sequence[Cell]) -> ResumeState:
        """Load the stored progress of some cells."""
        self.stored = _read(self.ready, cells)
        self.abandoned |= self.stored.abandoned
        if self.was_begun is None:
            self.was_begun = self.stored.is_any
        return self.stored

    def done(self) -> set[InvocationKey]:
        """Return the invocations that are not made again."""
        context = self.ready.context
        return context.store.done(context.sweep_id) - self.stored.reopened

    def checked(self) -> set[str]:
        """Return the keys of cells whose outputs are not checked again."""
        context = self.ready.context
        return context.store.done_accuracies(context.sweep_id) - self.stored.stale_checks


def _read(ready: ReadyDevice, cells: Sequence[Cell]) -> ResumeState:
    context = ready.context
    return read_state(
        context.store,
        context.sweep_id,
        cells,
        ready.planned_measurement,
        evidence_sha256=context.evidence.sha256 if context.evidence else None,
    )
