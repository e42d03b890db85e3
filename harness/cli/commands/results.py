"""`harness results`: sweeps that are done, as tables and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.completion import complete_sweeps
from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import UsageError
from harness.paths import default_results
from harness.text import alternatives, printable, require_choice

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from harness.store.pruning import Pruning
    from harness.store.store import Store

app = Verb(
    no_args_is_help=True,
    help="List, show, export and prune the sweeps that are stored, and print their logs.",
    epilog="Example: harness results export latest --format csv -o latest.csv",
)

SHOWN = 20
"""Sweeps on a screen; drawing hundreds takes longer than reading them."""
FORMATS = ("csv", "json", "markdown", "latex", "parquet", "mlflow")

SweepArgument = Annotated[
    str, typer.Argument(help="A sweep's id, its unique beginning, or latest.", autocompletion=complete_sweeps)
]


@app.command("list", epilog="Example: harness results list")
def list_sweeps(
    everything: Annotated[bool, typer.Option("--all", help=f"Not only the newest {SHOWN}; JSON has all.")] = False,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """List the stored sweeps, the newest first."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Column, Table

    from harness.store.listing import SweepState, list_sweeps
    from harness.store.location import title_of

    place = results or default_results()
    sweeps = list_sweeps(place)
    shown = sweeps if everything else sweeps[:SHOWN]
    if as_json:
        print_json({"sweeps": [sweep.as_json() for sweep in sweeps]})
    elif not sweeps:
        error_console().print(f"No sweeps in {title_of(place)}. Make one: harness sweep", markup=False)
    else:
        numbers = [Column(heading, justify="right", no_wrap=True) for heading in ("rows", "failed")]
        names = [Column(heading, overflow="fold") for heading in ("model", "devices")]
        table = Table(
            Column("sweep (UTC)", no_wrap=True),
            "status",
            "preset",
            *names,
            *numbers,
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for sweep in shown:
            model, devices = escape(str(sweep.record.spec.get("model", ""))), escape("\n".join(sweep.devices))
            preset = f"{sweep.record.preset}, A/A" if sweep.record.is_noise else sweep.record.preset
            table.add_row(sweep.record.id, sweep.state, preset, model, devices, str(sweep.rows), str(sweep.failed))
        console().print(table)
        if len(shown) < len(sweeps):
            error_console().print(f"{len(sweeps) - len(shown)} older sweeps: --all", markup=False)
        cut_short = [sweep for sweep in shown if sweep.state in (SweepState.KILLED, SweepState.INTERRUPTED)]
        for sweep in cut_short[:1]:
            error_console().print(f"Resume the last one: harness sweep --resume {sweep.record.id}", markup=False)


@app.command(epilog="Example: harness results show latest")
def show(sweep: SweepArgument = "latest", results: ResultsOption = None, as_json: bool = JsonOption) -> None:
    """Show one sweep's table."""
    from harness.cli.run import print_sweep
    from harness.store.store import Store

    with Store.open(results or default_results(), must_exist=True) as store:
        print_sweep(store, store.find_sweep(sweep).id, as_json=as_json)


@app.command(epilog="Example: harness results export latest --format parquet -o latest.parquet")
def export(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP", help="Ids, their unique beginnings, latest, or all.", autocompletion=complete_sweeps
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "csv",
    rows: Annotated[str, typer.Option(help="One row per cell (summary) or invocation (invocations).")] = "summary",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Only these columns, or page for those that fit a page; default: all, for latex page.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File; for mlflow a tracking URI or SQLite file."),
    ] = None,
    results: ResultsOption = None,
) -> None:
    """Write sweeps for other programs."""
    from harness.export.tables import choose_columns, read_table
    from harness.export.text_formats import PAPER_COLUMNS
    from harness.store.store import Store

    require_choice("--format", form, FORMATS)
    with Store.open(results or default_results(), must_exist=True) as store:
        chosen = store.sweep_ids(sweeps or ["latest"])
        table = read_table(store, chosen, rows)
        started_at = {record.id: record.started_at for record in store.sweeps() if record.id in chosen}
    if columns == "page" or (form == "latex" and not columns):
        table = table[[name for name in PAPER_COLUMNS if name in table]]
    elif columns:
        table = choose_columns(table, [column.strip() for column in columns.split(",")])
    if form == "mlflow":
        _log_to_mlflow(table, started_at, output)
    else:
        _write(table, form, output)


def _log_to_mlflow(table: pd.DataFrame, started_at: dict[str, datetime], output: str | None) -> None:
    from harness.export.mlflow import export_to_mlflow

    place = export_to_mlflow(table, started_at, output)
    error_console().print(f"Written: {len(table)} rows to {place}", markup=False, soft_wrap=True)


def _write(table: pd.DataFrame, form: str, output: str | None) -> None:
    from harness.export.files import encode, write_file

    data = encode(table, form)
    if output:
        write_file(Path(output), data)
        error_console().print(f"Written: {output}", markup=False, soft_wrap=True)
    elif form == "parquet":
        raise UsageError("Cannot print Parquet to a terminal.", "Name a file: -o FILE.")
    else:
        typer.echo(data.decode(), nl=False)


@app.command(
    epilog="Example: harness results log "
    "20261124-083000-ab12/logs/R58M/int8--gpu--t1--4f0c2d1e9a8b7c6d--latency-003-1.log.gz"
)
def log(
    path: Annotated[str, typer.Argument(help="As `harness explain` and the column log_path name it.")],
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Print the raw log of one process of the tool."""
    from harness.store.store import Store

    with Store.open(results or default_results(), must_exist=True) as store:
        text = store.logs.read(path)
    if as_json:
        print_json({"path": path, "log": text})
    else:
        typer.echo("\n".join(map(printable, text.split("\n"))) if sys.stdout.isatty() else text, nl=False)


@app.command(epilog="Example: harness results prune --keep 30 --older-than 90d --dry-run")
def prune(
    keep: Annotated[int | None, typer.Option(min=0, metavar="N", help="Keep the N newest sweeps.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Delete only older sweeps, such as 90d or 12w.")
    ] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Also A/A sweeps, counted apart.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Delete old sweeps and their raw logs permanently, but never a running sweep."""
    from datetime import UTC, datetime, timedelta

    from harness.cli.options import duration_s
    from harness.store.pruning import plan_pruning
    from harness.store.store import Store

    _require_answer(yes or dry_run, as_json)
    oldest = timedelta(seconds=duration_s(older_than)) if older_than else None
    with Store.open(results or default_results(), must_exist=True) as store:
        pruning = plan_pruning(store, now=datetime.now(UTC), keep=keep, older_than=oldest, noise=noise)
        _remove(store, pruning, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command(epilog="Example: harness results remove 20261124-083000-ab12")
def remove(
    sweeps: Annotated[
        list[str],
        typer.Argument(metavar="SWEEP", help="Ids, or their unique beginnings.", autocompletion=complete_sweeps),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Delete these sweeps and their raw logs permanently."""
    from harness.store.pruning import plan_removal
    from harness.store.store import Store

    _require_answer(yes or dry_run, as_json)
    with Store.open(results or default_results(), must_exist=True) as store:
        _remove(store, plan_removal(store, sweeps), dry_run=dry_run, yes=yes, as_json=as_json)


def _require_answer(is_given: bool, as_json: bool) -> None:
    if as_json and not is_given:
        raise UsageError("Cannot ask for confirmation with --json.", "Pass --yes or --dry-run.")


def _remove(store: Store, pruning: Pruning, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show what goes, ask, and delete it."""
    from harness.store.pruning import prune
    from harness.text import pluralize

    if not as_json:
        _print_pruning(pruning)
    if dry_run or not (pruning.sweeps or pruning.leftovers):
        gone = pruning.sweeps
    else:
        if not yes:
            _ask()
        gone = list(prune(store, pruning))
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "sweeps": [sweep.as_json() for sweep in gone],
                "kept_running": list(pruning.kept_running),
                "leftovers": [folder.name for folder in pruning.leftovers],
            }
        )
    elif dry_run:
        error_console().print("Nothing was removed.")
    else:
        error_console().print(f"Removed: {pluralize(len(gone), 'sweep')}.")


def _print_pruning(pruning: Pruning) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    from harness.text import pluralize

    table = Table(Column("sweep (UTC)", no_wrap=True), "status", "processes", "raw logs", box=SIMPLE_HEAD)
    for sweep in pruning.sweeps:
        record = sweep.record
        logs = f"{pluralize(sweep.log_files, 'file')}, {sweep.log_bytes / 1e6:.1f} MB"
        table.add_row(record.id, record.status, str(sweep.invocations), logs)
    if pruning.sweeps:
        console().print(table)
    processes = sum(sweep.invocations for sweep in pruning.sweeps)
    logs = f"{pruning.log_bytes / 1e6:.1f} MB of raw logs"
    notes = [f"{pluralize(len(pruning.sweeps), 'sweep')} to remove: {processes} processes of the tool, {logs}."]
    notes += [f"Kept, since it is running or may be on another computer: {name}" for name in pruning.kept_running]
    notes += [f"Left over by a prune that was killed: {folder}" for folder in pruning.leftovers]
    for note in notes:
        error_console().print(note, markup=False, soft_wrap=True)


def _ask() -> None:
    """Ask before anything is removed. Raises `UsageError` if stdin is not a terminal."""
    if not sys.stdin.isatty():
        raise UsageError("Cannot ask for confirmation: stdin is not a terminal.", "Pass --yes or --dry-run.")
    typer.confirm("Remove this for good?", abort=True)


@app.command(epilog="Example: harness results schema export-summary")
def schema(name: Annotated[str | None, typer.Argument(help="The document; default: list the names.")] = None) -> None:
    """Print the JSON Schema of a document that harness writes."""
    import json

    from harness.export.json_schema import schemas

    known = schemas()
    if name is None:
        typer.echo("\n".join(known))
    elif name in known:
        typer.echo(json.dumps(known[name], indent=2))
    else:
        raise UsageError(f"Invalid value {name!r} for NAME.", f"Choose {alternatives(list(known))}.")
