"""Write tables into files, by the name of a format or the ending of a file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.result_row import COLUMNS, JSON_VALUES, LISTS_OF_NUMBERS, LISTS_OF_TEXT, kind_of
from harness.errors import UsageError
from harness.export.parquet import parquet_values, to_parquet
from harness.export.tables import typed_frame
from harness.export.text_formats import EXPORT_SCHEMA_VERSION, FORMULA, to_csv, to_json, to_latex, to_markdown

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
    """Write a file. Raises `UsageError` if it cannot be written."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error


_AS_JSON = LISTS_OF_TEXT | LISTS_OF_NUMBERS | JSON_VALUES.keys()


def read_export(path: Path) -> pd.DataFrame:
    """Return the table in a `.csv`, `.json` or `.parquet` file of `harness results export`, types included.

    Raises `UsageError` for a file that is missing or is none of these.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is no export that can be read back.", f"Allowed are: {', '.join(_READERS)}.")
    try:
        return typed_frame(reader(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name a file that is there.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no export of harness: {error}.", "Export it again.") from error


def _csv_values(data: bytes) -> dict[str, list[Any]]:
    """Read CSV with pyarrow, whose reader alone tells empty text from a missing value."""
    import pyarrow as pa
    from pyarrow import csv

    kinds = {"Int64": pa.int64(), "boolean": pa.bool_(), "float64": pa.float64(), "object": pa.string()}
    names = csv.open_csv(io.BytesIO(data), parse_options=_csv_rules()).schema.names
    table = csv.read_csv(
        io.BytesIO(data),
        parse_options=_csv_rules(),
        convert_options=csv.ConvertOptions(
            column_types={name: kinds[kind_of(name)] for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return {name: [_from_csv(name, value) for value in values] for name, values in table.to_pydict().items()}


def _csv_rules() -> Any:  # noqa: ANN401 - pyarrow carries no types
    from pyarrow import csv

    return csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def _from_csv(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if name in _AS_JSON:
        return json.loads(value)
    return value[1:] if value.startswith("'") and FORMULA.match(value[1:]) else value


def _json_values(data: bytes) -> dict[str, list[Any]]:
    document = json.loads(data)
    if document["schema_version"] != EXPORT_SCHEMA_VERSION:
        raise ValueError(f"schema version {document['schema_version']}; this harness reads {EXPORT_SCHEMA_VERSION}")
    return {name: [row[name] for row in document["rows"]] for name in document["columns"]}


_READERS: dict[str, Callable[[bytes], dict[str, list[Any]]]] = {
    ".csv": _csv_values,
    ".json": _json_values,
    ".parquet": parquet_values,
}
