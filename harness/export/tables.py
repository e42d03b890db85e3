"""Stored sweeps as tidy tables with documented columns: one row per cell, or one row per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import pandas as pd

from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS, ResultRow, kind_of
from harness.analysis.summary import summarize
from harness.errors import UsageError
from harness.store.reader import StoreReader

Rows = Literal["summary", "invocations"]


def read_table(store: StoreReader, sweep_ids: Sequence[str], rows: str) -> pd.DataFrame:
    """Return the rows of several sweeps below each other. Raises `UsageError` for an unknown kind of rows."""
    if rows not in get_args(Rows):
        raise UsageError(f"rows: found {rows!r}.", f"Allowed are: {', '.join(get_args(Rows))}.")
    reader, columns = _READERS[rows]
    tables = [reader(store, sweep_id) for sweep_id in sweep_ids]
    return pd.concat(tables, ignore_index=True) if tables else typed_frame({name: [] for name in columns})


def summary_frame(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """Return results as a table with the columns of `ResultRow`."""
    return typed_frame({name: [getattr(row, name) for row in rows] for name in COLUMNS})


def tabulate_summary(store: StoreReader, sweep_id: str) -> pd.DataFrame:
    """Return one row per cell, with the columns of `ResultRow`."""
    return summary_frame(summarize(store, sweep_id))


def tabulate_invocations(store: StoreReader, sweep_id: str) -> pd.DataFrame:
    """Return one row per process, every attempt, in the order of time, with the columns of `INVOCATION_COLUMNS`."""
    cells = {cell.key: cell for cell in store.cells(sweep_id)}
    devices = {device.serial: device for device in store.devices(sweep_id)}
    invocations = store.invocations(sweep_id)
    last = {row.key: row.id for row in invocations}
    rows = []
    for row in invocations:
        cell = cells[row.cell_key]
        device = devices.get(cell.serial)
        of_cell = {"variant": cell.variant_name, "delegate_requested": cell.delegate}
        of_device = {"device": device and device.title, "device_kind": device and device.kind}
        is_last = {"is_last_attempt": last[row.key] == row.id}
        rows.append(vars(cell) | vars(row) | of_cell | of_device | is_last)
    return typed_frame({name: [row[name] for row in rows] for name in INVOCATION_COLUMNS})


_READERS: dict[str, tuple[Callable[[StoreReader, str], pd.DataFrame], Mapping[str, object]]] = {
    "summary": (tabulate_summary, COLUMNS),
    "invocations": (tabulate_invocations, INVOCATION_COLUMNS),
}


def choose_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return these columns in this order. Raises `UsageError` for one that is not there."""
    if unknown := [name for name in names if name not in table.columns]:
        raise UsageError(f"There is no column {unknown[0]!r}.", f"There are: {', '.join(table.columns)}.")
    return table[list(dict.fromkeys(names))]


def text_frame(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Return rows of text as a table, for Markdown or CSV."""
    return pd.DataFrame(list(rows))


def typed_frame(values: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return a table whose columns have the documented types; None is what is missing."""
    return pd.DataFrame({name: pd.Series(list(held), dtype=kind_of(name)) for name, held in values.items()})
