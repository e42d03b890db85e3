"""The tables of one sweep, each read once, as the page needs them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from harness.analysis.comparable_cell import ComparableCell, comparable_cells
from harness.analysis.device_noise import DeviceNoise, noise_cells
from harness.analysis.evidence import RowEvidence
from harness.analysis.summary import summary_rows
from harness.store import schema
from harness.store.records import SweepRecord
from harness.store.store import Store
from harness.store.sweep_rows import SweepRows
from harness.text import to_json_value

Row = Mapping[str, Any]

_SUMMARIZED = (schema.devices, schema.variants, schema.cells, schema.invocations, schema.accuracies)
"""The tables that a summary is made of, in the order of the fields of `SweepRows`."""


@dataclass(frozen=True)
class SweepData:
    """One sweep as JSON values; missing, NaN and infinite numbers are None."""

    record: SweepRecord
    rows: Sequence[Row]
    """The summary: one row a cell, and one for each device or recipe that failed as a whole."""
    sides: Sequence[ComparableCell]
    """The cells as sides of a comparison."""
    noise: DeviceNoise
    """What A/A sweeps, else this sweep, tell of the devices' noise."""
    measured_noise: DeviceNoise
    """What A/A sweeps alone tell of it: only they are a noise floor of a device (promise H9)."""
    devices: Sequence[Row]
    variants: Sequence[Row]
    tools: Sequence[Row]
    cells: Sequence[Row]
    invocations: Sequence[Row]
    """Every attempt of every pass, in the order of time."""
    accuracies: Sequence[Row]

    @cached_property
    def cell_rows(self) -> list[Row]:
        """The rows that are cells."""
        return [row for row in self.rows if row["cell_key"] is not None]

    @cached_property
    def has_several_threads(self) -> bool:
        """Whether a row needs its number of threads to be told from another."""
        return len({row["threads"] for row in self.cell_rows}) > 1

    def name_of(self, row: Row) -> str:
        """Name a cell as people do: `int8 on gpu`, with threads where the sweep has several."""
        threads = f", {row['threads']} threads" if self.has_several_threads else ""
        return f"{row['variant']} on {row['delegate_requested']}{threads}"


def read_sweep_data(store: Store, record: SweepRecord) -> SweepData:
    """Read one sweep. No raw log is opened."""
    read = {table: _finite(store.rows(table, [record.id])) for table in (*_SUMMARIZED, schema.tools)}
    sweep = SweepRows(record.id, record, *(read[table] for table in _SUMMARIZED))
    rows = summary_rows(sweep)
    sides = comparable_cells(sweep, rows)
    known = noise_cells(store, {side.cell["serial"] for side in sides})
    return SweepData(
        record=record,
        rows=rows,
        sides=sides,
        noise=DeviceNoise(known, sides),
        measured_noise=DeviceNoise(known, at_hand=()),
        devices=sweep.devices,
        variants=sweep.variants,
        tools=read[schema.tools],
        cells=sweep.cells,
        invocations=sweep.invocations,
        accuracies=sweep.accuracies,
    )


def _finite(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows with None for every number that is none, such as a tool's infinite memory."""
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]


def all_evidence(data: SweepData) -> Iterator[RowEvidence]:
    """Return what is stored behind each cell, as `read_evidence` does for one."""
    sweep = {key: to_json_value(value) for key, value in asdict(data.record).items()}
    cells, devices = _by(data.cells, "key"), _by(data.devices, "serial")
    variants, tools = _by(data.variants, "name"), _by(data.tools, "sha256")
    invocations, accuracies = grouped(data.invocations, "cell_key"), grouped(data.accuracies, "cell_key")
    for side in data.sides:
        cell = cells[side.cell["cell_key"]]
        floor = data.measured_noise.within(side, side, len(side.latencies_us))
        yield RowEvidence(
            sweep=sweep,
            cell=cell,
            summary=side.cell,
            device=devices.get(cell["serial"], {}),
            variant=variants.get(cell["variant_name"], {}),
            tool=tools.get(cell["tool_sha256"], {}),
            invocations=invocations.get(cell["key"], []),
            accuracies=accuracies.get(cell["key"], []),
            noise_floor=floor.value if floor else None,
        )


def _by(rows: Sequence[Row], column: str) -> dict[str, Row]:
    return {row[column]: row for row in rows}


def grouped(rows: Sequence[Row], column: str) -> dict[Any, list[Row]]:
    """Return the rows by the value of a column, groups and rows in the order in which they come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups
