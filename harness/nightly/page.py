"""The HTML report of a night, where this harness has one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from harness.results.night_check import NightCheck
from harness.results.store import Store

_PACKAGE = "harness.report.page"


def write_night_page(store: Store, check: NightCheck, path: Path) -> str:
    """Write tonight and the nights that it was compared with as one page; return one sentence on what became of it.

    Raises `UsageError` where the page cannot be written.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        return "No HTML report was written: this harness has none."
    render, site, sweep_data, history = (
        importlib.import_module(f"{_PACKAGE}.{name}") for name in ("render", "site", "sweep_data", "history_figure")
    )
    sweeps = [sweep_data.read_sweep_data(store, store.find_sweep(sweep_id)) for sweep_id in _newest_first(check)]
    changes = [
        history.ChangePoint(**vars(step.cell), sweep_id=step.sweep_id, ratio=step.estimate.value,
                            cause=", ".join(change.what for change in step.causes))
        for step in filter(None, (cell.new_step for cell in check.cells))
    ]  # fmt: skip
    site.write_page(path, render.render_report(sweeps, render.ReportOptions(changes=changes)))
    return f"HTML report: {path}"


def _newest_first(check: NightCheck) -> Sequence[str]:
    before = {cell.compared.a.sweep_id for cell in check.cells if cell.compared and cell.compared.a}
    return [check.sweep_id, *sorted(before, reverse=True)]
