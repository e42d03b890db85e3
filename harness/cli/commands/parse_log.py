"""`harness parse-log`: a saved `benchmark_model` log as numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.output import JsonOption, console, print_json
from harness.errors import UsageError

app = typer.Typer(add_completion=False, help="Read a benchmark_model log of any era.")


@app.command(epilog="Example: adb shell /data/local/tmp/benchmark_model ... 2>&1 | harness parse-log - --requested gpu")
def parse_log(
    file: Annotated[Path, typer.Argument(help="The log; - reads standard input.")],
    requested: Annotated[
        str | None, typer.Option(help="The requested delegate; without it, a fallback cannot be seen.")
    ] = None,
    as_json: bool = JsonOption,
) -> None:
    """Read a benchmark_model log: latency, memory, delegates, op profile, and whether it is any good.

    A log with several runs gives one entry each. The exit code is 1 when a run is no good.
    """
    from harness.benchmark.delegates import find_delegate
    from harness.benchmark.saved_log import read_saved_log
    from harness.files import decode_saved

    if requested:
        find_delegate(requested)
    runs = read_saved_log(decode_saved(_read(file)), requested)
    if as_json:
        print_json({"runs": runs})
    else:
        for run in runs:
            _show(run)
    if not all(run["ok"] for run in runs):
        raise typer.Exit(1)


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}.", "Name a log file, or - for standard input."
        ) from error


def _show(run: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column("field", style="bold")
    table.add_column("value", overflow="fold")
    for field, value in run.items():
        if value not in (None, [], False) or field in ("ok", "fell_back"):
            table.add_row(field, _text(value))
    console().print(table)


def _text(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, dict):
        return escape(", ".join(f"{key} {item}" for key, item in value.items()))
    if isinstance(value, list):
        return "\n".join(_text(item) for item in value)
    return escape(str(value))
