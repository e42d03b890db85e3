"""Rows of a summary as experiment trackers know them: what was set, what was measured, and all else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.analysis.result_row import COLUMNS, LISTS_OF_NUMBERS, kind_of
from harness.errors import UsageError
from harness.export.text_formats import to_rows

SETTINGS = ("device", "serial", "profile", "variant", "delegate_requested", "threads", "core_mask")
"""Columns that say what was chosen."""
CURVES = tuple(LISTS_OF_NUMBERS)
_NO_FIGURES = frozenset({"threads", "rank"})
"""Whole numbers that are choices or places, so that no tracker draws a curve of them."""


@dataclass(frozen=True)
class TrackedRow:
    """One row of a summary."""

    sweep_id: str
    name: str
    """Unique within the sweep."""
    settings: Mapping[str, str | int]
    figures: Mapping[str, float]
    """Numbers by column; what is missing or infinite is left out."""
    curves: Mapping[str, list[float]]
    facts: Mapping[str, Any]
    """All other columns, as JSON values; what is missing is left out."""


def tracked_rows(summary: pd.DataFrame) -> list[TrackedRow]:
    """Return the rows. Raises `UsageError` for a table that is no summary."""
    if list(summary.columns) != list(COLUMNS):
        raise UsageError("Trackers take whole rows of a summary.", "Leave --rows and --columns out.")
    return [_tracked(row) for row in to_rows(summary)]


def _tracked(row: Mapping[str, Any]) -> TrackedRow:
    known = {name: value for name, value in row.items() if value is not None}
    figures = {
        name: float(value)
        for name, value in known.items()
        if kind_of(name) in ("Int64", "float64") and name not in _NO_FIGURES
    }
    settings = {name: known[name] for name in SETTINGS if name in known}
    curves = {name: known[name] for name in CURVES if known.get(name)}
    others = known.keys() - figures.keys() - settings.keys() - curves.keys()
    name = " ".join(str(settings[part]) for part in ("variant", "delegate_requested", "serial") if part in settings)
    return TrackedRow(
        row["sweep_id"],
        f"{name} {known.get('cell_key', 'failed')}",
        settings,
        figures,
        curves,
        {name: known[name] for name in sorted(others)},
    )
