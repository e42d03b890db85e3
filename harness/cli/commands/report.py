"""`harness report`: sweeps as one HTML file, or as a static site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, error_console, print_json
from harness.errors import UsageError
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.report.html.site import WrittenFile

app = typer.Typer(
    add_completion=False,
    help="Write sweeps as one HTML file that needs no network: the decision first, then the evidence.",
)


@app.command(epilog="Example: harness report latest -o report.html --max-drop 0.5")
def report(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SWEEP]...", help="An id, latest (default), latest~1; several show their history too."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a site of all sweeps to this folder instead.")
    ] = None,
    max_drop: Annotated[float, typer.Option(help="Points of accuracy that may be lost.")] = 1.0,
    max_size: Annotated[float | None, typer.Option(min=0, help="Largest file, kB.")] = None,
    max_latency: Annotated[float | None, typer.Option(min=0, help="Longest median latency, ms.")] = None,
    max_memory: Annotated[float | None, typer.Option(min=0, help="Most memory, MB.")] = None,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Write a page that says what to ship on each device, within the limits, and all that stands behind it."""
    from harness.analysis.decision import ShipLimits
    from harness.analysis.sweep_data import read_sweep_data
    from harness.report.html.history_figure import read_changes
    from harness.report.html.page import ReportOptions, render_report
    from harness.report.html.site import write_page, write_site
    from harness.store.store import Store

    if index and sweeps:
        raise UsageError("--index writes all sweeps; found names of some too.", "Leave out the names, or --index.")
    limits = ShipLimits(max_drop, max_size, max_latency, max_memory)
    with Store.open(results or default_results(), must_exist=True) as store:
        if index:
            files = write_site(store, index, limits)
        else:
            records = {record.id: record for record in map(store.find_sweep, sweeps or ["latest"])}
            newest_first = sorted(records.values(), key=lambda record: record.id, reverse=True)
            changes = read_changes(store) if len(records) > 1 else []
            page = render_report(
                [read_sweep_data(store, record) for record in newest_first], ReportOptions(limits, changes)
            )
            files = [write_page(output, page)]
    _tell(files, as_json)


def _tell(files: list[WrittenFile], as_json: bool) -> None:
    if as_json:
        print_json({"files": [{"path": str(file.path), "size_bytes": file.size_bytes} for file in files]})
        return
    size_mb = sum(file.size_bytes for file in files) / 1e6
    more = f", with {len(files) - 1} reports beside it" if len(files) > 1 else ""
    error_console().print(f"Written: {files[0].path}{more} ({size_mb:.1f} MB)", markup=False, soft_wrap=True)
