"""Everything that the store holds behind one row of a summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.comparable_cell import ComparableCell, read_comparable_cells
from harness.analysis.device_noise import DeviceNoise, noise_cells
from harness.analysis.result_row import ResultRow
from harness.analysis.summary import is_confirmed, last_looks, variant_of
from harness.benchmark.invocation import Pass
from harness.errors import UsageError
from harness.store.reader import StoreReader
from harness.store.records import SweepRecord
from harness.store.rows import AccuracyRow, CellRow, DeviceRow, FileCheckRow, InvocationRow, ToolRow, VariantRow, finite
from harness.tflite.variant import VariantFidelity


@dataclass(frozen=True)
class RowEvidence:
    """One cell of one sweep with all that was kept about it; None for what was lost before it was stored."""

    sweep: SweepRecord
    cell: CellRow
    summary: ResultRow
    device: DeviceRow | None
    variant: VariantRow | None
    tool: ToolRow | None
    invocations: Sequence[InvocationRow]
    """Every attempt of every pass, in the order of time."""
    accuracies: Sequence[AccuracyRow]
    """Every attempt of the accuracy pass, in the order of time."""
    file_checks: Sequence[FileCheckRow]
    """Every look at tool and variant on the device, in the order of time."""
    noise_floor: float | None
    """Smallest relative difference between two such cells of one sweep that is more than noise; None: not measured."""

    def measured(self, purpose: Pass = Pass.LATENCY) -> list[InvocationRow]:
        """Return the attempts of a pass that count: the last of each place in the plan, where it succeeded."""
        latest = {row.invocation_index: row for row in self.invocations if row.purpose == purpose}
        return [row for row in latest.values() if row.failure_class is None]

    @property
    def is_confirmed(self) -> bool:
        """Return True if tool and variant were looked at after all that was measured."""
        accuracy = self.accuracies[-1] if self.accuracies else None
        return is_confirmed(self.cell, self.invocations, accuracy, last_looks(self.file_checks))

    @property
    def fidelity(self) -> VariantFidelity | None:
        """How near the variant is to the float model; None if that was never looked at."""
        return self.variant.fidelity if self.variant else None

    @property
    def discarded(self) -> list[InvocationRow]:
        """Attempts that were made again later, of every pass."""
        latest = {(row.purpose, row.invocation_index): row.id for row in self.invocations}
        return [row for row in self.invocations if latest[row.purpose, row.invocation_index] != row.id]


@dataclass(frozen=True)
class RowName:
    """What names one row; None: whichever there is, if there is one only."""

    variant: str
    delegate: str
    serial: str | None = None
    threads: int | None = None


def read_evidence(store: StoreReader, sweep: str, name: RowName) -> RowEvidence:
    """Gather what is stored behind one row.

    Raises `UsageError` for a name that fits no row or several, with what there is.
    """
    record = store.find_sweep(sweep)
    side = _find(read_comparable_cells(store, record.id), record.id, name)
    cell = next(cell for cell in store.cells(record.id) if cell.key == side.cell.cell_key)
    return RowEvidence(
        sweep=record,
        cell=cell,
        summary=side.cell,
        device=next((row for row in store.devices(record.id) if row.serial == cell.serial), None),
        variant=variant_of(cell, store.variants(record.id)),
        tool=next((row for row in store.tools(record.id) if row.sha256 == cell.tool_sha256), None),
        invocations=[finite(row) for row in store.invocations(record.id) if row.cell_key == cell.key],
        accuracies=[finite(row) for row in store.accuracies(record.id) if row.cell_key == cell.key],
        file_checks=looks_at(cell, store.file_checks(record.id)),
        noise_floor=_noise_floor(store, side),
    )


def looks_at(cell: CellRow, checks: Iterable[FileCheckRow]) -> list[FileCheckRow]:
    """Return the looks at the tool and the variant of one cell, in the order of time."""
    owners = (cell.tool_sha256, cell.variant_sha256)
    return [check for check in checks if check.serial == cell.serial and check.owner_sha256 in owners]


def _find(sides: Sequence[ComparableCell], sweep_id: str, name: RowName) -> ComparableCell:
    wanted = {
        "variant": name.variant,
        "delegate_requested": name.delegate,
        "serial": name.serial,
        "threads": name.threads,
    }
    found = [
        side
        for side in sides
        if all(value is None or getattr(side.cell, column) == value for column, value in wanted.items())
    ]
    if len(found) == 1:
        return found[0]
    if not sides:
        raise UsageError(f"Sweep {sweep_id} has no cells: nothing was measured.", "See `harness results list`.")
    problem = f"fits {len(found)} rows" if found else "fits no row"
    rows = "; ".join(
        f"{side.cell.variant} {side.cell.delegate_requested} --device {side.serial} --threads {side.cell.threads}"
        for side in found or sides
    )
    raise UsageError(f"{name.variant} {name.delegate} {problem} of sweep {sweep_id}.", f"There are: {rows}.")


def _noise_floor(store: StoreReader, side: ComparableCell) -> float | None:
    if not side.latencies_us:
        return None
    known = DeviceNoise(noise_cells(store, {side.serial}), at_hand=())  # A/A sweeps alone are a floor
    floor = known.within(side, side, len(side.latencies_us))
    return floor.value if floor else None
