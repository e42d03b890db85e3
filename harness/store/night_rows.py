"""The stored rows of many nights, a few columns of each, in one query per table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select, true

from harness.benchmark.invocation import Pass
from harness.store import schema
from harness.store.store import Store

Row = dict[str, Any]
Columns = Sequence[ColumnElement[Any]]

_invocations, _accuracies = schema.invocations.c, schema.accuracies.c
_INVOCATION: Columns = (
    _invocations.sweep_id,
    _invocations.cell_key,
    _invocations.purpose,
    _invocations.invocation_index,
    _invocations.block,
    _invocations.failure_class,
    _invocations.latency_median_us,
    _invocations.latency_avg_us,
    _invocations.fell_back,
    _invocations.delegate_achieved,
    _invocations.peak_memory_mb,
    _invocations.memory_overall_mb,
)
_ACCURACY: Columns = (
    _accuracies.sweep_id,
    _accuracies.cell_key,
    _accuracies.check_passed,
    _accuracies.top1,
    _accuracies.top1_low,
    _accuracies.top1_high,
    _accuracies.failure_class,
)
_DEVICE: Columns = (
    schema.devices.c.sweep_id,
    schema.devices.c.serial,
    schema.devices.c.title,
    schema.devices.c.labels,
    schema.devices.c.failure_class,
    schema.devices.c.facts["fingerprint"].as_string().label("fingerprint"),
)
_VARIANT: Columns = (
    schema.variants.c.sweep_id,
    schema.variants.c.name,
    schema.variants.c.size_bytes,
    schema.variants.c.card["model"].as_string().label("model"),
)


def cells_named(store: Store, names: Mapping[str, object]) -> list[Row]:
    """Return the cells of every sweep whose columns have the values in `names`, oldest sweep first."""
    matching = [schema.cells.c[name] == value for name, value in names.items()]
    return store.read(select(schema.cells).where(*matching).order_by(schema.cells.c.sweep_id))


def invocations_of(store: Store, sweep_ids: Sequence[str], keys: Sequence[str] | None = None) -> list[Row]:
    """Return every attempt of the latency and memory passes, in the order of time; `keys` limits the cells."""
    purposes = schema.invocations.c.purpose.in_([Pass.LATENCY, Pass.MEMORY])
    return _rows(store, _INVOCATION, sweep_ids, purposes, _of_cells(_invocations.cell_key, keys), order=_invocations.id)


def accuracies_of(store: Store, sweep_ids: Sequence[str], keys: Sequence[str] | None = None) -> list[Row]:
    """Return every attempt of the accuracy pass, in the order of time; `keys` limits the cells."""
    return _rows(store, _ACCURACY, sweep_ids, _of_cells(_accuracies.cell_key, keys), order=_accuracies.id)


def devices_of(store: Store, sweep_ids: Sequence[str]) -> list[Row]:
    """Return the devices of several sweeps."""
    return _rows(store, _DEVICE, sweep_ids)


def variants_of(store: Store, sweep_ids: Sequence[str]) -> list[Row]:
    """Return the variants of several sweeps."""
    return _rows(store, _VARIANT, sweep_ids)


def time_spent(store: Store, sweep_ids: Collection[str]) -> list[Row]:
    """Return per sweep and cell the `seconds` that its invocations and accuracy passes took, and their number."""
    spent = []
    for table in (schema.invocations, schema.accuracies):
        place = (table.c.sweep_id, table.c.cell_key)
        query = select(*place, func.sum(table.c.wall_s).label("seconds"), func.count().label("processes"))
        spent += store.read(query.where(table.c.sweep_id.in_(sweep_ids)).group_by(*place))
    return spent


def _of_cells(column: ColumnElement[str], keys: Sequence[str] | None) -> ColumnElement[bool]:
    return true() if keys is None else column.in_(keys)


def _rows(
    store: Store,
    columns: Columns,
    sweep_ids: Sequence[str],
    *conditions: ColumnElement[bool],
    order: ColumnElement[int] | None = None,
) -> list[Row]:
    query = select(*columns).where(columns[0].in_(sweep_ids), *conditions)
    return store.read(query if order is None else query.order_by(order))
