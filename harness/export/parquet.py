"""Tables as Apache Parquet, with the type, unit and description of every column in the file itself."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.result_row import (
    COLUMNS,
    INVOCATION_COLUMNS,
    JSON_VALUES,
    LISTS_OF_NUMBERS,
    LISTS_OF_TEXT,
    unit_of,
)
from harness.export.text_formats import EXPORT_SCHEMA_VERSION
from harness.text import to_json

if TYPE_CHECKING:
    import pyarrow as pa


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return a Parquet file. Lists are lists; JSON objects are JSON text, since each device has other keys."""
    import pyarrow as pa
    import pyarrow.parquet

    documented = INVOCATION_COLUMNS if "invocation_index" in table.columns else COLUMNS
    fields, columns = [], []
    for name in map(str, table.columns):
        values = [to_json(value) if name in JSON_VALUES and value is not None else value for value in table[name]]
        column = pa.array(values, type=_arrow_type(name, str(table[name].dtype)), from_pandas=True)
        about = {"description": documented.get(name, ("", ""))[1], "unit": unit_of(name)}
        fields.append(pa.field(name, column.type, metadata={key: text for key, text in about.items() if text}))
        columns.append(column)
    schema = pa.schema(fields, metadata={"harness_schema_version": str(EXPORT_SCHEMA_VERSION)})
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, schema=schema), file, compression="zstd")
    return file.getvalue()


def _arrow_type(name: str, kind: str) -> pa.DataType | None:
    """Return the type of a column; None, which lets the values decide, for one that is not documented."""
    import pyarrow as pa

    if name in LISTS_OF_TEXT:
        return pa.list_(pa.string())
    if name in LISTS_OF_NUMBERS:
        return pa.list_(pa.float64())
    return {"Int64": pa.int64(), "boolean": pa.bool_(), "float64": pa.float64()}.get(
        kind, pa.string() if name in COLUMNS | INVOCATION_COLUMNS else None
    )


def parquet_values(data: bytes) -> dict[str, list[Any]]:
    """Return the columns of such a file as Python values."""
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(io.BytesIO(data)).to_pydict()
    return {
        name: [json.loads(value) if name in JSON_VALUES and value is not None else value for value in values]
        for name, values in columns.items()
    }
