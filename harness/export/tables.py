"""Stored sweeps as tidy tables with documented columns: one row a cell, or one row a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import pandas as pd

from harness.analysis.result_row import COLUMNS, INVOCATION_COLUMNS, kind_of
from harness.analysis.summary import summarize
from harness.errors import UsageError
from harness.store.store import Store

Rows = Literal["summary", "invocations"]


def read_table(store: Store, sweep_ids: Sequence[str], rows: str) -> pd.DataFrame:
    """Return the rows of several sweeps below each other. Raises `UsageError` for an unknown kind of rows."""
    if rows not in get_args(Rows):
        raise UsageError(f"rows: found {rows!r}.", f"Allowed are: {', '.join(get_args(Rows))}.")
    reader, columns = _READERS[rows]
    tables = [reader(store, sweep_id) for sweep_id in sweep_ids]
    return pd.concat(tables, ignore_index=True) if tables else typed_frame({name: [] for name in columns})


def tabulate_invocations(store: Store, sweep_id: str) -> pd.DataFrame:
    """Return one row a process, every attempt, in the order of time, with the columns of `INVOCATION_COLUMNS`."""
    cells = store.cells(sweep_id).rename(
        columns={"key": "cell_key", "variant_name": "variant", "delegate": "delegate_requested"}
    )
    devices = store.devices(sweep_id)[["serial", "title", "kind"]].rename(
        columns={"title": "device", "kind": "device_kind"}
    )
    of_cell = cells.drop(columns=["sweep_id", "mode"]).merge(devices, on="serial", how="left")
    invocations = store.invocations(sweep_id)
    place = ["cell_key", "purpose", "invocation_index"]
    invocations["is_last_attempt"] = ~invocations.duplicated(place, keep="last")
    joined = invocations.merge(of_cell, on="cell_key", how="left", validate="many_to_one")
    return joined[list(INVOCATION_COLUMNS)].astype({name: kind for name, (kind, _) in INVOCATION_COLUMNS.items()})


_READERS: dict[str, tuple[Callable[[Store, str], pd.DataFrame], Mapping[str, object]]] = {
    "summary": (summarize, COLUMNS),
    "invocations": (tabulate_invocations, INVOCATION_COLUMNS),
}


def choose_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return these columns in this order. Raises `UsageError` for one that is not there."""
    if unknown := [name for name in names if name not in table.columns]:
        raise UsageError(f"There is no column {unknown[0]!r}.", f"There are: {', '.join(table.columns)}.")
    return table[list(dict.fromkeys(names))]


def typed_frame(values: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return a table whose columns have the documented types; None is what is missing."""
    return pd.DataFrame({name: pd.Series(list(held), dtype=kind_of(name)) for name, held in values.items()})
