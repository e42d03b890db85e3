"""The HTML report of a night."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.history.night_check import NightCheck
from harness.store.store import Store


def write_night_page(store: Store, check: NightCheck, path: Path) -> None:
    """Write tonight and the nights that it was compared with as one page. Raises `UsageError` where it cannot be."""
    from harness.analysis.sweep_data import read_sweep_data
    from harness.report.html.history_figure import ChangePoint
    from harness.report.html.page import ReportOptions, render_report
    from harness.report.html.site import write_page

    before = {cell.compared.a.sweep_id for cell in check.cells if cell.compared and cell.compared.a}
    newest_first = [check.sweep_id, *sorted(before, reverse=True)]
    changes = [
        ChangePoint(**vars(step.cell), sweep_id=step.sweep_id, ratio=step.estimate.value,
                    cause=", ".join(change.what for change in step.causes))
        for step in (cell.new_step for cell in check.cells) if step
    ]  # fmt: skip
    sweeps = [read_sweep_data(store, store.find_sweep(sweep_id)) for sweep_id in newest_first]
    write_page(path, render_report(sweeps, ReportOptions(changes=changes)))
