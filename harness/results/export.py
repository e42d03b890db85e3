"""Tables as CSV, JSON and Markdown for other programs, safe to open there."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pandas as pd

from harness.results.plain import plain

SCHEMA_VERSION = 1
"""Version of the exported columns; raised when one changes its meaning or goes away."""

_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN_SIGNS = re.compile(r"([\\|`*_\[\]<>&#~])")


def to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON values; every missing, NaN or infinite value is None."""
    rows = table.astype(object).to_dict("records")
    return [{str(name): None if value is pd.NA else plain(value) for name, value in row.items()} for row in rows]


def to_json(table: pd.DataFrame, **more: object) -> str:
    """Return one JSON document: `schema_version`, whatever is in `more`, and `rows`."""
    document = {"schema_version": SCHEMA_VERSION, **{name: plain(value) for name, value in more.items()}}
    return json.dumps(document | {"rows": to_rows(table)}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """Return CSV (RFC 4180) with a heading line; missing values are empty, lists are JSON.

    Text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, CSV injection).
    """
    output = io.StringIO(newline="")
    writer = csv.writer(output)
    writer.writerow(table.columns)
    writer.writerows([_csv_cell(value) for value in row.values()] for row in to_rows(table))
    return output.getvalue()


def _csv_cell(value: object) -> object:
    text = _as_text(value) if isinstance(value, list | dict) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA_START) else text


def to_markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table in which nothing that came from outside is markup; missing values are empty."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[_markdown_cell(value) for value in row.values()] for row in to_rows(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_cell(value: object) -> str:
    on_one_line = " ".join(_as_text(value).split())
    return _MARKDOWN_SIGNS.sub(r"\\\1", on_one_line)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)


FORMATS = {"csv": to_csv, "json": to_json, "markdown": to_markdown}
"""What `results export --format` takes."""
