"""Write tables into files, by the name of a format or the ending of a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.analysis.result_row import COLUMNS
from harness.errors import UsageError
from harness.export.parquet import to_parquet
from harness.export.text_formats import to_csv, to_json, to_latex, to_markdown

FORMATS = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".tex": "latex"}
"""Formats by the ending of their files."""


def encode(table: pd.DataFrame, form: str) -> bytes:
    """Return a table in one of `FORMATS`."""
    if form == "parquet":
        return to_parquet(table)
    if form == "json":
        rows_are = "summary" if set(table.columns) <= set(COLUMNS) else "invocations"
        return to_json(table, rows_are=rows_are).encode()
    return {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}[form](table).encode()


def write_export(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format that the file's ending names. Raises `UsageError`."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} has an ending that names no format.", f"Allowed are: {', '.join(FORMATS)}.")
    write_file(path, encode(table, FORMATS[path.suffix.lower()]))


def write_file(path: Path, data: bytes) -> None:
    """Write a file. Raises `UsageError` where it cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error
