"""`harness results`: sweeps that are done, as tables and files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import JsonOption, console, error_console, print_json
from harness.errors import UsageError
from harness.paths import default_results_folder

app = typer.Typer(
    no_args_is_help=True,
    help="List, show and export the sweeps that are stored.",
    epilog="Example: harness results export latest --format csv -o latest.csv",
)

ResultsOption = Annotated[Path | None, typer.Option("--results", help="Folder of results; default: results/.")]
SweepArgument = Annotated[str, typer.Argument(help="A sweep's id, its unique beginning, or latest.")]


@app.command("list", epilog="Example: harness results list")
def list_sweeps(results: ResultsOption = None, as_json: bool = JsonOption) -> None:
    """List the stored sweeps, the newest last."""
    from rich.markup import escape
    from rich.table import Table

    from harness.results.plain import plain
    from harness.results.store import Store

    folder = results or default_results_folder()
    if not folder.exists():
        records = []
    else:
        with Store.open(folder) as store:
            records = store.sweeps()
    if as_json:
        print_json({"sweeps": [plain(record) for record in records]})
    elif not records:
        error_console().print(f"No sweeps in {folder}. Make one: harness sweep", markup=False)
    else:
        table = Table("sweep", "started (UTC)", "status", "preset", "model")
        for record in records:
            model = escape(str(record.spec.get("model", "")))
            preset = f"{record.preset}, A/A" if record.is_noise else record.preset
            table.add_row(record.id, f"{record.started_at:%Y-%m-%d %H:%M}", record.status, preset, model)
        console().print(table)


@app.command(epilog="Example: harness results show latest")
def show(sweep: SweepArgument = "latest", results: ResultsOption = None, as_json: bool = JsonOption) -> None:
    """Show one sweep's table."""
    from harness.cli.show import print_sweep
    from harness.results.store import Store

    with Store.open(results or default_results_folder(), must_exist=True) as store:
        print_sweep(store, store.find_sweep(sweep).id, as_json=as_json)


@app.command(epilog="Example: harness results export latest --format markdown")
def export(
    sweep: SweepArgument = "latest",
    form: Annotated[str, typer.Option("--format", help="csv, json or markdown.")] = "csv",
    rows: Annotated[str, typer.Option(help="summary (one a cell) or invocations (one a process).")] = "summary",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; default: standard output.")] = None,
    results: ResultsOption = None,
) -> None:
    """Write one sweep as CSV, JSON or Markdown."""
    from harness.results.export import FORMATS
    from harness.results.store import Store
    from harness.results.summary import summarize

    if form not in FORMATS:
        raise UsageError(f"--format: found {form!r}.", f"Allowed are: {', '.join(FORMATS)}.")
    if rows not in ("summary", "invocations"):
        raise UsageError(f"--rows: found {rows!r}.", "Allowed are: summary, invocations.")
    with Store.open(results or default_results_folder(), must_exist=True) as store:
        sweep_id = store.find_sweep(sweep).id
        table = summarize(store, sweep_id) if rows == "summary" else store.invocations(sweep_id)
    text = FORMATS[form](table)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", "Name another file.") from error
    error_console().print(f"Written: {output}", markup=False)
