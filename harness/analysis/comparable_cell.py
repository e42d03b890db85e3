"""Cells of stored sweeps as sides of a comparison, and whether two of them are alike (promise H22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.result_row import ResultRow
from harness.analysis.summary import latency_column, summary_rows
from harness.analysis.verdict import Verdict
from harness.benchmark.invocation import Pass
from harness.store.reader import StoreReader
from harness.store.rows import InvocationRow, SweepRows
from harness.text import contrast

CONDITIONS = {
    "device": "serial of the device",
    "os": "fingerprint of the operating system",
    "tool": "SHA-256 of the tool",
    "cores": "cores that the tool was pinned to",
    "mode": "how it was measured: runs, warm-up and the like",
    "profile": "device profile",
    "model": "model that the variant was made of",
    "value": "what stands for one process: its median or its average",
}
"""All that must be the same on both sides, by the name that `--allow` takes."""


@dataclass(frozen=True)
class ComparableCell:
    """One cell of one sweep."""

    sweep_id: str
    cell: ResultRow
    """The cell's row of the summary."""
    conditions: Mapping[str, object]
    """A value for each of `CONDITIONS`; None if it is not known."""
    latencies_us: Mapping[int, float]
    """One a successful process of the latency pass, by its block, in the order of time."""

    @property
    def key(self) -> str:
        """Return the key of the cell."""
        return self.cell.cell_key or ""

    @property
    def serial(self) -> str:
        """Return the serial of its device."""
        return self.cell.serial or ""

    @property
    def labels(self) -> frozenset[str]:
        """What was unusual about the device."""
        return frozenset(self.cell.labels)


def read_comparable_cells(store: StoreReader, sweep_id: str) -> list[ComparableCell]:
    """Return every cell of a sweep that counts, also those that were not measured."""
    (sweep,) = store.read_sweeps([sweep_id])
    return comparable_cells(sweep)


def comparable_cells(sweep: SweepRows, summary: Sequence[ResultRow] | None = None) -> list[ComparableCell]:
    """Return every comparable cell of a sweep whose rows, and perhaps `summary_rows`, are already read."""
    devices = {device.serial: device.facts or {} for device in sweep.devices}
    cards = {variant.name: variant.card or {} for variant in sweep.variants}
    modes = {cell.key: cell.mode for cell in sweep.cells}
    processes = _last_measured(sweep)
    sides = []
    for cell in summary_rows(sweep) if summary is None else summary:
        if cell.cell_key is None or cell.verdict == Verdict.SET_ASIDE:  # a whole device or recipe, or outdated
            continue
        conditions = {
            "device": cell.serial,
            "os": devices.get(cell.serial or "", {}).get("fingerprint"),
            "tool": cell.tool_sha256,
            "cores": cell.core_mask,
            "mode": modes[cell.cell_key],
            "profile": cell.profile,
            "model": cards.get(cell.variant or "", {}).get("model"),
            "value": cell.latency_of,
        }
        column = latency_column(cell.latency_of)
        latencies = {row.block: getattr(row, column) for row in processes.get(cell.cell_key, [])}
        sides.append(ComparableCell(sweep.sweep_id, cell, conditions, latencies))
    return sides


def _last_measured(sweep: SweepRows) -> dict[str, list[InvocationRow]]:
    """Return the last attempt of each process of the latency pass where it succeeded, by cell, in order of time."""
    latest = {(row.cell_key, row.invocation_index): row for row in sweep.invocations if row.purpose == Pass.LATENCY}
    cells: dict[str, list[InvocationRow]] = {}
    for row in sorted(latest.values(), key=lambda row: row.block):
        if row.failure_class is None:
            cells.setdefault(row.cell_key, []).append(row)
    return cells


def differences(a: ComparableCell, b: ComparableCell) -> dict[str, str]:
    """Return what is not alike, by the name of the condition, each as a few words such as `runs 30 against 50`."""
    unlike = [name for name in CONDITIONS if a.conditions[name] != b.conditions[name]]
    return {name: contrast(name, a.conditions[name], b.conditions[name]) for name in unlike}
