"""Stored rows as pandas tables, for tests that count and group them."""

from dataclasses import fields

import pandas as pd

from harness.store.rows import CellRow, InvocationRow

COLUMNS = list(dict.fromkeys(field.name for row in (InvocationRow, CellRow) for field in fields(row)))
"""Of a table without rows, so that a test may poll a store that is still empty."""


def frame(rows):
    """Return one row per stored row, one column per field, values as they are."""
    return pd.DataFrame([vars(row) for row in rows], columns=None if rows else COLUMNS, dtype=object)
