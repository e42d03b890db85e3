"""All rows of all sweeps as the columns of one table, which the page's script sorts, filters and searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.cell_comparison import footprint_mb
from harness.analysis.sweep_data import Row, SweepData
from harness.report.page.cell_points import milliseconds, ran, verdict_text
from harness.report.text import printable


@dataclass(frozen=True)
class RowColumn:
    """One column; numbers are sorted as numbers and shown with `digits` significant ones."""

    name: str
    heading: str
    value: Callable[[SweepData, Row], Any]
    unit: str = ""
    kind: str = "text"
    """`text`, `number`, `fixed` (one decimal place) or `signed`."""
    has_filter: bool = False
    """Whether a list of its values lets the reader choose rows."""


def _text(column: str) -> Callable[[SweepData, Row], str | None]:
    return lambda _, row: None if row[column] is None else printable(row[column])


def _value(column: str, factor: float = 1) -> Callable[[SweepData, Row], float | None]:
    return lambda _, row: None if row[column] is None else row[column] * factor


def _milliseconds(column: str) -> Callable[[SweepData, Row], float | None]:
    return lambda _, row: milliseconds(row[column])


def _change(_: SweepData, row: Row) -> float | None:
    return None if row["accuracy_drop_points"] is None else -row["accuracy_drop_points"]


COLUMNS: tuple[RowColumn, ...] = (
    RowColumn("variant", "variant", _text("variant"), has_filter=True),
    RowColumn("delegate", "delegate", _text("delegate_requested"), has_filter=True),
    RowColumn("threads", "threads", _value("threads"), kind="number"),
    RowColumn("device", "device", _text("device"), has_filter=True),
    RowColumn("sweep", "sweep", lambda data, _: data.record.id, has_filter=True),
    RowColumn("verdict", "verdict", lambda _, row: verdict_text(row)),
    RowColumn("rank", "rank", _value("rank"), kind="number"),
    RowColumn("latency", "latency", _milliseconds("latency_median_us"), "ms", "number"),
    RowColumn("low", "95 % from", _milliseconds("latency_low_us"), "ms", "number"),
    RowColumn("high", "to", _milliseconds("latency_high_us"), "ms", "number"),
    RowColumn("top1", "top-1", _value("top1", 100), "%", "fixed"),
    RowColumn("change", "change", _change, "points", "signed"),
    RowColumn("size", "file", _value("size_bytes", 1 / 1000), "kB", "number"),
    RowColumn("gzip", "zipped", _value("gzip_size_bytes", 1 / 1000), "kB", "number"),
    RowColumn("memory", "memory", lambda _, row: footprint_mb(row), "MB", "number"),
    RowColumn("ran", "ran", lambda _, row: ran(row) if row["cell_key"] else None),
    RowColumn("cold", "first load", _milliseconds("init_cold_us"), "ms", "number"),
    RowColumn("warm", "next load", _milliseconds("init_warm_us"), "ms", "number"),
    RowColumn("invocations", "invocations", _value("invocations_ok"), kind="number"),
    RowColumn("outcome", "outcome", lambda _, row: str(row["failure_class"] or row["verdict"]), has_filter=True),
)
"""`outcome` is not shown: it filters what `verdict` shows."""

_HIDDEN = ("outcome", "rank")
_DIGITS = 6


def row_table(sweeps: Sequence[SweepData]) -> dict[str, Any]:
    """Return columns and rows; a column that tells nothing apart (one sweep, one device) is left out."""
    rows = [[_short(column.value(data, row)) for column in COLUMNS] for data in sweeps for row in data.rows]
    used = [index for index, column in enumerate(COLUMNS) if _is_used(column, [row[index] for row in rows])]
    return {
        "columns": [
            {"name": column.name, "heading": column.heading, "unit": column.unit, "kind": column.kind,
             "filter": column.has_filter, "hidden": column.name in _HIDDEN}
            for column in (COLUMNS[index] for index in used)
        ],
        "rows": [[row[index] for index in used] for row in rows],
    }  # fmt: skip


def _short(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _is_used(column: RowColumn, values: Sequence[object]) -> bool:
    if column.name in ("sweep", "threads"):
        return len(set(values)) > 1
    return column.name in ("variant", "verdict", "latency") or any(value is not None for value in values)
