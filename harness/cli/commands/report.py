"""`harness report`: sweeps as one HTML file, or as a static site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.api import report as write_report
from harness.cli.completion import complete_sweeps
from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.report.html.site import WrittenFile

app = Verb(
    help="Write sweeps as one HTML file that needs no network: the decision first, then the evidence.",
)


@app.command(epilog="Example: harness report latest -o report.html --max-drop 0.5")
def report(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP",
            help="An id, latest (default), latest~1; several show their history too.",
            autocompletion=complete_sweeps,
        ),
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
    if index and sweeps:
        raise UsageError("Cannot combine --index with names of sweeps: it writes all of them.", "Leave out either.")
    error_console().print("Writing the report.")
    written = write_report(
        sweeps or "latest",
        output,
        site=index,
        max_drop_points=max_drop,
        max_size_kb=max_size,
        max_latency_ms=max_latency,
        max_memory_mb=max_memory,
        results=results,
    )
    _print(written.files, as_json)


def _print(files: Sequence[WrittenFile], as_json: bool) -> None:
    if as_json:
        print_json({"files": [{"path": str(file.path), "size_bytes": file.size_bytes} for file in files]})
        return
    size_mb = sum(file.size_bytes for file in files) / 1e6
    facts = [f"{size_mb:.1f} MB", *filter(None, [files[0].how])]
    more = f", and {len(files) - 1} reports next to it" if len(files) > 1 else ""
    error_console().print(f"Written: {files[0].path}{more} ({', '.join(facts)})", markup=False, soft_wrap=True)
