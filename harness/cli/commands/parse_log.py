"""`harness parse-log`: a saved `benchmark_model` log as numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import JsonOption, console, print_json
from harness.cli.verb import Verb
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.benchmark.saved_log import SavedRun

app = Verb(help="Read a benchmark_model log of any era.")


@app.command(epilog="Example: adb shell /data/local/tmp/benchmark_model ... 2>&1 | harness parse-log - --requested gpu")
def parse_log(
    file: Annotated[Path, typer.Argument(help="The log; - reads standard input.")],
    requested: Annotated[
        str | None, typer.Option(help="The requested delegate; without it, a fallback cannot be seen.")
    ] = None,
    as_json: bool = JsonOption,
) -> None:
    """Read a benchmark_model log: latency, memory, delegates, op profile, and whether it is any good.

    A log with several runs gives one entry each. The exit code is 1 if a run is no valid measurement, or if nodes of
    it ran elsewhere than requested.
    """
    from harness.benchmark.delegates import find_delegate_of_log
    from harness.benchmark.saved_log import read_saved_log
    from harness.files import decode_saved

    if requested:
        find_delegate_of_log(requested)
    runs = read_saved_log(decode_saved(_read(file)), requested)
    if as_json:
        print_json({"runs": [run.values for run in runs]})
    else:
        for run in runs:
            _show(run)
    if not all(run.is_good for run in runs):
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


_LATENCIES = {
    "init_us": "load",
    "first_inference_us": "first inference",
    "warmup_avg_us": "warm-up, mean",
    "inference_avg_us": "inference, mean",
}
_MEGABYTES = {
    "memory_init_mb": "memory after loading",
    "memory_overall_mb": "memory in all",
    "peak_memory_mb": "peak memory",
    "model_file_mb": "model file",
}
_OTHERS = {
    "warmup_stats": "warm-up runs (us)",
    "run_stats": "timed runs (us)",
    "explicit_apply": "delegate took the graph",
    "unconsumed_flags": "ignored flags",
    "option_runs": "options (us)",
    "litert_results": "LiteRT's results",
    "accelerator_counter": "accelerator's own count",
    "op_profile_nodes": "operators",
    "error_class": "failure",
    "error_text": "said",
}


def _show(run: SavedRun) -> None:
    from rich.markup import escape
    from rich.table import Table

    console().print(escape(run.verdict), style="green" if run.is_good else "bold red")
    table = Table(show_header=False)
    table.add_column("field", style="bold")
    table.add_column("value", overflow="fold")
    values = run.values
    for field, name in _LATENCIES.items():
        if values[field] is not None:
            table.add_row(name, f"{values[field] / 1000:,.3f} ms")
    if values["delegated_nodes"] is not None:
        total = values["total_nodes"]
        table.add_row("nodes delegated", str(values["delegated_nodes"]) + (f" of {total}" if total is not None else ""))
    for field, name in _MEGABYTES.items():
        if values[field] is not None:
            table.add_row(name, f"{values[field]:g} MB")
    for field, name in _OTHERS.items():
        if values[field] not in (None, [], run.verdict):
            table.add_row(name, _text(values[field]))
    if table.row_count:
        console().print(table)
    if run.advice:
        console().print(escape(run.advice))


def _text(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, dict):
        return escape(", ".join(f"{key} {item}" for key, item in value.items()))
    if isinstance(value, list):
        return "\n".join(_text(item) for item in value)
    return escape(str(value))
