"""Assemble the verbs into one program, and turn every known error into one sentence and an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import typer
import typer.core
import typer.main

from harness.cli.output import print_error
from harness.errors import ExitCode, HarnessError
from harness.version import __version__

VERBS: dict[str, str] = {
    "sweep": "harness.cli.commands.sweep",
    "devices": "harness.cli.commands.devices",
    "doctor": "harness.cli.commands.doctor",
    "compress": "harness.cli.commands.compress",
    "evaluate": "harness.cli.commands.evaluate",
    "partition": "harness.cli.commands.partition",
    "recipes": "harness.cli.commands.recipes",
    "bench": "harness.cli.commands.bench",
    "compare": "harness.cli.commands.compare",
    "explain": "harness.cli.commands.explain",
    "history": "harness.cli.commands.history",
    "lab": "harness.cli.commands.lab",
    "nightly": "harness.cli.commands.nightly",
    "noise": "harness.cli.commands.noise",
    "report": "harness.cli.commands.report",
    "results": "harness.cli.commands.results",
    "tools": "harness.cli.commands.tools",
    "parse-log": "harness.cli.commands.parse_log",
    "phone": "harness.cli.commands.phone",
}
"""Each verb and the module whose `app` (a `typer.Typer`) carries it out."""


class VerbGroup(typer.core.TyperGroup):
    """Load a verb's module only when that verb, or the list of all, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, D102
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, D102
        if cmd_name not in VERBS:
            return None
        command = typer.main.get_command(importlib.import_module(VERBS[cmd_name]).app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the verb; Ctrl-C ends it with its own exit code instead of the shell's 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error(HarnessError("Interrupted.", "What was finished is kept."))
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compress a model, measure the variants on real Android phones, and see which one to ship.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the program: the entry point of the console script."""
    for ending in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C, so that phones are given back as they were
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup asks
            signal.signal(ending, signal.default_int_handler)
    try:
        app()
    except HarnessError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our pipe, such as `head`, has gone
        sys.stderr.close()
        sys.exit(ExitCode.OK)
