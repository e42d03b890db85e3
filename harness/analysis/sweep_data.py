"""The tables of one sweep, each read once, as the page needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from harness.analysis.comparable_cell import ComparableCell, comparable_cells
from harness.analysis.device_noise import DeviceNoise, noise_cells
from harness.analysis.evidence import RowEvidence, looks_at
from harness.analysis.result_row import ResultRow
from harness.analysis.summary import summary_rows
from harness.store.reader import StoreReader
from harness.store.records import SweepRecord
from harness.store.rows import AccuracyRow, CellRow, DeviceRow, FileCheckRow, InvocationRow, ToolRow, VariantRow
from harness.text import pluralize

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class SweepData:
    """The rows of one sweep; NaN and infinite numbers are None."""

    record: SweepRecord
    rows: Sequence[ResultRow]
    """The summary: one row per cell, and one for each device or recipe that failed as a whole."""
    sides: Sequence[ComparableCell]
    """The cells as sides of a comparison."""
    noise: DeviceNoise
    """What A/A sweeps, else this sweep, tell of the devices' noise."""
    measured_noise: DeviceNoise
    """What A/A sweeps alone tell of it: only they are a noise floor of a device (promise H9)."""
    devices: Sequence[DeviceRow]
    variants: Sequence[VariantRow]
    tools: Sequence[ToolRow]
    cells: Sequence[CellRow]
    invocations: Sequence[InvocationRow]
    """Every attempt of every pass, in the order of time."""
    accuracies: Sequence[AccuracyRow]
    file_checks: Sequence[FileCheckRow]

    @cached_property
    def cell_rows(self) -> list[ResultRow]:
        """The rows that are cells."""
        return [row for row in self.rows if row.cell_key is not None]

    @cached_property
    def has_several_threads(self) -> bool:
        """Return True if a row needs its number of threads to be distinguishable."""
        return len({row.threads for row in self.cell_rows}) > 1

    def name_of(self, row: ResultRow) -> str:
        """Name a cell as people do: `int8 on gpu`, with threads where the sweep has several."""
        threads = f", {pluralize(row.threads or 0, 'thread')}" if self.has_several_threads else ""
        return f"{row.variant} on {row.delegate_requested}{threads}"


def read_sweep_data(store: StoreReader, record: SweepRecord, *, telemetry: bool = True) -> SweepData:
    """Read one sweep; a decision needs no telemetry. No raw log is opened."""
    (sweep,) = store.read_sweeps([record.id], telemetry=telemetry)
    sweep = sweep.finite()
    rows = summary_rows(sweep)
    sides = comparable_cells(sweep, rows)
    known = noise_cells(store, {side.serial for side in sides})
    return SweepData(
        record=record,
        rows=rows,
        sides=sides,
        noise=DeviceNoise(known, sides),
        measured_noise=DeviceNoise(known, at_hand=()),
        devices=sweep.devices,
        variants=sweep.variants,
        tools=sweep.tools,
        cells=sweep.cells,
        invocations=sweep.invocations,
        accuracies=sweep.accuracies,
        file_checks=sweep.file_checks,
    )


def all_evidence(data: SweepData) -> Iterator[RowEvidence]:
    """Yield what is stored behind each cell, as `read_evidence` does for one."""
    cells, devices = {cell.key: cell for cell in data.cells}, {device.serial: device for device in data.devices}
    variants, tools = {variant.name: variant for variant in data.variants}, {tool.sha256: tool for tool in data.tools}
    invocations = grouped(data.invocations, lambda row: row.cell_key)
    accuracies = grouped(data.accuracies, lambda row: row.cell_key)
    for side in data.sides:
        cell = cells[side.key]
        floor = data.measured_noise.within(side, side, len(side.latencies_us))
        yield RowEvidence(
            sweep=data.record,
            cell=cell,
            summary=side.cell,
            device=devices.get(cell.serial),
            variant=variants.get(cell.variant_name),
            tool=tools.get(cell.tool_sha256),
            invocations=invocations.get(cell.key, []),
            accuracies=accuracies.get(cell.key, []),
            file_checks=looks_at(cell, data.file_checks),
            noise_floor=floor.value if floor else None,
        )


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return the items by a key, groups and items in the order in which they come."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
