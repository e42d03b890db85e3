"""Everything that the store holds behind one row of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.analysis.comparable_cell import ComparableCell, read_comparable_cells
from harness.analysis.device_noise import DeviceNoise, noise_cells
from harness.analysis.summary import variant_of
from harness.benchmark.invocation import Pass
from harness.errors import UsageError
from harness.store.rows import to_rows
from harness.store.store import Store
from harness.text import to_json_value

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RowEvidence:
    """One cell of one sweep with all that was kept about it, as JSON values."""

    sweep: Row
    cell: Row
    summary: Row
    device: Row
    variant: Row
    tool: Row
    invocations: Sequence[Row]
    """Every attempt of every pass, in the order of time."""
    accuracies: Sequence[Row]
    """Every attempt of the accuracy pass, in the order of time."""
    noise_floor: float | None
    """Smallest relative difference between two such cells of one sweep that is more than noise; None: not measured."""

    def measured(self, purpose: Pass = Pass.LATENCY) -> list[Row]:
        """Return the attempts of a pass that count: the last of each place in the plan, where it succeeded."""
        latest = {row["invocation_index"]: row for row in self.invocations if row["purpose"] == purpose}
        return [row for row in latest.values() if row["failure_class"] is None]

    @property
    def discarded(self) -> list[Row]:
        """Attempts that were made again later, of every pass."""
        latest = {(row["purpose"], row["invocation_index"]): row["id"] for row in self.invocations}
        return [row for row in self.invocations if latest[row["purpose"], row["invocation_index"]] != row["id"]]


@dataclass(frozen=True)
class RowName:
    """What names one row; None: whichever there is, if there is one only."""

    variant: str
    delegate: str
    serial: str | None = None
    threads: int | None = None


def read_evidence(store: Store, sweep: str, name: RowName) -> RowEvidence:
    """Gather what is stored behind one row.

    Raises `UsageError` for a name that fits no row or several, with what there is.
    """
    record = store.find_sweep(sweep)
    side = _find(read_comparable_cells(store, record.id), record.id, name)
    cell = _only(to_rows(store.cells(record.id)), "key", side.cell["cell_key"])
    return RowEvidence(
        sweep={key: to_json_value(value) for key, value in asdict(record).items()},
        cell=cell,
        summary=side.cell,
        device=_only(to_rows(store.devices(record.id)), "serial", cell["serial"]),
        variant=variant_of(cell, to_rows(store.variants(record.id))),
        tool=_only(to_rows(store.tools(record.id)), "sha256", cell["tool_sha256"]),
        invocations=[row for row in to_rows(store.invocations(record.id)) if row["cell_key"] == cell["key"]],
        accuracies=[row for row in to_rows(store.accuracies(record.id)) if row["cell_key"] == cell["key"]],
        noise_floor=_noise_floor(store, side),
    )


def _find(sides: Sequence[ComparableCell], sweep_id: str, name: RowName) -> ComparableCell:
    wanted = {
        "variant": name.variant,
        "delegate_requested": name.delegate,
        "serial": name.serial,
        "threads": name.threads,
    }
    found = [
        side for side in sides if all(value is None or side.cell[column] == value for column, value in wanted.items())
    ]
    if len(found) == 1:
        return found[0]
    if not sides:
        raise UsageError(f"Sweep {sweep_id} has no cells: nothing was measured.", "See `harness results list`.")
    problem = f"fits {len(found)} rows" if found else "fits no row"
    rows = "; ".join(
        f"{side.cell['variant']} {side.cell['delegate_requested']} --device {side.cell['serial']} "
        f"--threads {side.cell['threads']}"
        for side in found or sides
    )
    raise UsageError(f"{name.variant} {name.delegate} {problem} of sweep {sweep_id}.", f"There are: {rows}.")


def _only(rows: Sequence[Row], column: str, value: object) -> Row:
    """Return the one row that holds the value; empty where there is none, as after a loss in mid-sweep."""
    return next((row for row in rows if row[column] == value), {})


def _noise_floor(store: Store, side: ComparableCell) -> float | None:
    if not side.latencies_us:
        return None
    known = DeviceNoise(noise_cells(store, {side.cell["serial"]}), at_hand=())  # A/A sweeps alone are a floor
    floor = known.within(side, side, len(side.latencies_us))
    return floor.value if floor else None
