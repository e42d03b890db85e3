"""Stored results as tables, files and pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.paths import default_results

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.html.site import WrittenFile


def load_results(
    folder: str | Path | None = None,
    sweep: str | Iterable[str] = "latest",
    rows: Literal["summary", "invocations"] = "summary",
) -> pd.DataFrame:
    """Return stored results as a tidy table: one row per cell (`summary`) or one row per invocation (`invocations`).

    `folder` is a results folder, a `.sqlite3` file or a SQLAlchemy URL; by default `$HARNESS_RESULTS` or `results`.
    `sweep` is an id, the beginning of one, `latest`, `latest~1`, several of these, or `all`. Columns, types and units
    are those of `harness.analysis.result_row` (docs/exports.md). A column's name ends with its unit, such as `_us`.
    Raises `UsageError` if the sweep does not exist, `MissingPrerequisiteError` if there are no results.

    Example: `harness.load_results(sweep="all", rows="invocations")`
    """
    from harness.export.tables import read_table
    from harness.store.store import Store

    with Store.open(folder or default_results(), must_exist=True) as store:
        names = [sweep] if isinstance(sweep, str) else list(sweep)
        return read_table(store, store.sweep_ids(names), rows)


def read_export(path: str | Path) -> pd.DataFrame:
    """Return the table in a CSV, JSON or Parquet file that `harness results export` wrote, types included.

    Raises `UsageError` for any other file. Example: `harness.read_export("latest.parquet")`
    """
    from harness.export.files import read_export as read

    return read(Path(path))


def write_export(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table, or some of its columns and rows, as `.csv`, `.json`, `.parquet`, `.md` or `.tex`.

    `read_export` reads the first three. Raises `UsageError` for another ending or a file that cannot be written.

    Example: `harness.write_export(harness.load_results(), "latest.csv")`
    """
    from harness.export.files import write_export as write

    write(table, Path(path))


@dataclass(frozen=True)
class Report:
    """The files of a written report, the first page first."""

    files: tuple[WrittenFile, ...]

    @property
    def path(self) -> Path:
        """The page to open."""
        return self.files[0].path

    def to_frame(self) -> pd.DataFrame:
        """Return one row per file: its path and its size in bytes."""
        import pandas as pd

        return pd.DataFrame([{"path": str(file.path), "size_bytes": file.size_bytes} for file in self.files])

    def _repr_html_(self) -> str:
        return f'<a href="{escape(self.path.as_posix())}">{escape(str(self.path))}</a>'


def report(
    sweeps: str | Iterable[str] = "latest",
    output: str | Path = "report.html",
    *,
    site: str | Path | None = None,
    max_drop_points: float | None = 1.0,
    max_size_kb: float | None = None,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    results: str | Path | None = None,
) -> Report:
    """Write sweeps as one HTML file that works offline: the decision first, then the evidence.

    Several `sweeps` also show their history. With `site`, a page per stored sweep and an index are written to that
    folder, and `sweeps` and `output` are ignored. The limits are those of `decide`. Raises `UsageError`.

    Example: `harness.report("latest", "report.html").path`
    """
    from harness.analysis.shipping.choice import ShipLimits
    from harness.analysis.sweep_data import read_sweep_data
    from harness.report.html.history_figure import read_changes
    from harness.report.html.page import ReportOptions, render_report
    from harness.report.html.site import write_page, write_site
    from harness.store.store import Store

    limits = ShipLimits(max_drop_points, max_size_kb, max_latency_ms, max_memory_mb)
    names = [sweeps] if isinstance(sweeps, str) else list(sweeps)
    if not names and site is None:
        raise UsageError("Cannot write a report of no sweep.", "Name a sweep, such as latest.")
    with Store.open(str(results or default_results()), must_exist=True) as store:
        if site is not None:
            return Report(tuple(write_site(store, Path(site), limits)))
        records = {record.id: record for record in map(store.find_sweep, names)}
        newest_first = sorted(records.values(), key=lambda record: record.id, reverse=True)
        changes = read_changes(store) if len(records) > 1 else []
        data = [read_sweep_data(store, record) for record in newest_first]
        return Report((write_page(Path(output), render_report(data, ReportOptions(limits, changes))),))
