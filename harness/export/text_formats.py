"""Tables as CSV, JSON, Markdown and LaTeX for other programs, safe to open there.

Missing values and NaN are one and the same: empty. An infinite value stays one if the format has a name for it (CSV,
Markdown, LaTeX) and is null in JSON, which has none. `harness.export.files` reads CSV and JSON back as they were.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from harness.text import to_json_value

EXPORT_SCHEMA_VERSION = 1
"""Version of the exported columns; raised when one changes its meaning or goes away."""

FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
"""Text that a spreadsheet would run (OWASP, CSV injection), with any apostrophes in front."""
_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$|^$')
_MARKDOWN_SIGNS = re.compile(r"([\\|`*_\[\]<>&#~])")

PAPER_COLUMNS = (
    "device",
    "variant",
    "delegate_requested",
    "threads",
    "latency_median_us",
    "latency_low_us",
    "latency_high_us",
    "size_bytes",
    "memory_peak_mb",
    "top1",
    "accuracy_drop_points",
    "verdict",
)
"""What fits the width of a page."""


def to_json(table: pd.DataFrame, **more: object) -> str:
    """Return one JSON document: `schema_version`, whatever is in `more`, `columns` in their order, and `rows`."""
    document = {"schema_version": EXPORT_SCHEMA_VERSION, **{name: to_json_value(value) for name, value in more.items()}}
    document["columns"] = list(map(str, table.columns))
    return json.dumps(document | {"rows": to_rows(table)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON values; every missing, NaN or infinite value is None."""
    rows = table.astype(object).to_dict("records")
    return [
        {str(name): None if value is pd.NA else to_json_value(value) for name, value in row.items()} for row in rows
    ]


def to_csv(table: pd.DataFrame) -> str:
    r"""Return CSV (RFC 4180) with a heading line; missing values are empty, empty text is `""`, lists are JSON.

    Text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    lines = [map(_csv_cell, map(str, table.columns))]
    lines += [map(_csv_cell, row) for row in _values(table)]
    return "".join(",".join(line) + "\r\n" for line in lines)


def _values(table: pd.DataFrame) -> Iterable[Sequence[Any]]:
    """Return the rows as plain values, with infinite numbers as they are."""
    for row in table.astype(object).itertuples(index=False, name=None):
        yield [value if _is_infinite(value) else None if value is pd.NA else to_json_value(value) for value in row]


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | list | dict):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    safe = f"'{text}" if FORMULA.match(text) else text
    quoted = safe.replace('"', '""')
    return f'"{quoted}"' if _NEEDS_QUOTES.search(safe) else safe


def to_markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table in which nothing that came from outside is markup; missing values are empty."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[_MARKDOWN_SIGNS.sub(r"\\\1", _on_paper(value)) for value in row] for row in _values(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: pd.DataFrame) -> str:
    """Return a LaTeX table (package booktabs) in which nothing that came from outside is a command."""
    shown = pd.DataFrame([list(map(_on_paper, row)) for row in _values(table)], columns=table.columns, dtype=object)
    shown.columns = shown.columns.map(str)
    kinds = "".join("r" if table[name].dtype != object else "l" for name in table.columns)
    style = shown.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    return str(style.to_latex(hrules=True, column_format=kinds))


def _on_paper(value: object) -> str:
    """Return a value as people read it, on one line."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)
    return " ".join(text.split())
