"""Stored rows as pandas tables, for tests that count and group them."""

import pandas as pd


def frame(rows):
    """Return one row per stored row, one column per field, values as they are."""
    return pd.DataFrame([vars(row) for row in rows], dtype=object)
