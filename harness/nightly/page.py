"""The HTML report of a night, where this harness has one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from harness.results.store import Store

_MODULE = "harness.report.page"


def write_page(store: Store, sweep_ids: Sequence[str], path: Path) -> str:
    """Write the HTML report of some sweeps and return one sentence on what became of it."""
    found = importlib.util.find_spec(_MODULE)
    write_report = getattr(importlib.import_module(_MODULE), "write_report", None) if found else None
    if write_report is None:
        return "No HTML report was written: this harness has none."
    write_report(store, sweep_ids, path)
    return f"HTML report: {path}"
