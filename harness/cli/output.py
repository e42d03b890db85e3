"""Output that all commands share: a console for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

from harness.errors import HarnessError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CLI_JSON_SCHEMA_VERSION = 1
"""Version of every `--json` document; raised when a field changes its meaning or goes away."""

JsonOption = typer.Option(False, "--json", help="Print JSON (with a schema_version) instead of a table.")


_UNLIMITED = 10_000
"""Columns of a pipe or file: a table is never narrowed for a terminal that is not there."""


def console() -> Console:
    """Return the console for people, on stdout. Into a pipe it writes every column, no colours and no progress bars."""
    from rich.console import Console

    screen = Console(highlight=False)
    if not screen.is_terminal and "COLUMNS" not in os.environ:
        screen.width = _UNLIMITED
    return screen


def error_console() -> Console:
    """Return the console for progress and errors, on stderr, so that stdout stays clean for pipes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def folding_table(*headings: str, numeric: Collection[str] = (), title: str | None = None) -> Table:
    """Return a table that wraps long words instead of cutting them."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numeric else "left", overflow="fold")
    return table


def print_json(payload: dict[str, Any]) -> None:
    """Print one JSON document for machines."""
    typer.echo(
        json.dumps({"schema_version": CLI_JSON_SCHEMA_VERSION, **payload}, indent=2, ensure_ascii=False, default=str)
    )


def wants_json() -> bool:
    """Return True if the command line asks for JSON."""
    given = sys.argv[1:]
    return "--json" in given or "--format=json" in given or ("--format", "json") in pairwise(given)


def print_error(error: HarnessError) -> None:
    """Print what happened and, on a second line, what to do; with `--json` also as JSON on stdout."""
    from rich.text import Text

    if wants_json():
        print_json({"error": {"message": str(error), "advice": error.advice, "exit_code": error.exit_code}})

    screen = error_console()
    screen.print(Text("error: ", style="bold red") + Text(str(error)), soft_wrap=True)
    if error.advice:
        screen.print(Text("  " + error.advice), soft_wrap=True)
