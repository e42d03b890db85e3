"""All that is stored of a sweep as plain values: what summaries and comparisons are computed from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from harness.store import schema
from harness.store.records import SweepRecord, record_of
from harness.store.store import Store

Row = dict[str, Any]

_UNUSED = ("telemetry_before", "telemetry_during", "telemetry_after", "gate")
"""Columns of `invocations` that hold most of its bytes, and nothing that is computed with."""


@dataclass(frozen=True)
class SweepRows:
    """The rows of one sweep by table, each in the order of its primary key."""

    sweep_id: str
    record: SweepRecord | None = None
    devices: list[Row] = field(default_factory=list)
    variants: list[Row] = field(default_factory=list)
    cells: list[Row] = field(default_factory=list)
    invocations: list[Row] = field(default_factory=list)
    """Every attempt, in the order of time; without telemetry."""
    accuracies: list[Row] = field(default_factory=list)
    """Every attempt, in the order of time."""


def read_sweep_rows(store: Store, sweep_ids: Collection[str]) -> list[SweepRows]:
    """Return the rows of several sweeps, with one query a table however many sweeps they are."""
    of_them = select(schema.sweeps).where(schema.sweeps.c.id.in_(sweep_ids))
    records = {row["id"]: record_of(row) for row in store.read(of_them)}
    sweeps = {sweep_id: SweepRows(sweep_id, records[sweep_id]) for sweep_id in sweep_ids}
    for table in (schema.devices, schema.variants, schema.cells, schema.invocations, schema.accuracies):
        for row in store.rows(table, sweeps, without=_UNUSED):
            getattr(sweeps[row["sweep_id"]], table.name).append(row)
    return list(sweeps.values())
