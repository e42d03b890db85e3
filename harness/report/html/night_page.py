"""The files that a night leaves next to its logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.analysis.history.night_check import NightCheck
from harness.errors import HarnessError
from harness.nightly.night import NightOutcome
from harness.store.reader import StoreReader

JUNIT_NAME = "junit.xml"
PAGE_NAME = "report.html"


def write_night_files(
    store: StoreReader, outcome: NightOutcome, tell: Callable[[str], None], *, junit: Path | None, page: Path | None
) -> None:
    """Write the JUnit file and the HTML report, by default into the sweep's folder. Raises `HarnessError`."""
    from harness.export.junit import junit_xml

    folder = store.folder / outcome.check.sweep_id
    junit_path, page_path = junit or folder / JUNIT_NAME, page or folder / PAGE_NAME
    try:
        for path in (junit_path, page_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        junit_path.write_text(junit_xml(outcome.check, outcome.fail_on), encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"{junit_path} cannot be written: {error.strerror}.", "The sweep itself is kept.") from error
    tell(f"JUnit: {junit_path}")
    write_night_page(store, outcome.check, page_path)
    tell(f"HTML report: {page_path}")


def write_night_page(store: StoreReader, check: NightCheck, path: Path) -> None:
    """Write tonight and the nights that it was compared with as one page. Raises `UsageError` if it cannot be."""
    from harness.analysis.sweep_data import read_sweep_data
    from harness.report.html.history_figure import ChangePoint
    from harness.report.html.page import ReportOptions, render_report
    from harness.report.html.site import write_page

    before = {cell.compared.a.sweep_id for cell in check.cells if cell.compared and cell.compared.a}
    newest_first = [check.sweep_id, *sorted(before, reverse=True)]
    changes = [
        ChangePoint(
            **vars(step.cell),
            sweep_id=step.sweep_id,
            ratio=step.estimate.value,
            cause=", ".join(change.what for change in step.causes),
        )
        for step in (cell.new_step for cell in check.cells)
        if step
    ]
    sweeps = [read_sweep_data(store, store.find_sweep(sweep_id)) for sweep_id in newest_first]
    write_page(path, render_report(sweeps, ReportOptions(changes=changes)))
