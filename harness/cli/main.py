"""Assemble the verbs into one program, and turn every known error into one sentence and an exit code."""

from __future__ import annotations

import difflib
import importlib
import re
import signal
import sys
from typing import TYPE_CHECKING

import typer
import typer.core
import typer.main

from harness.cli.output import print_error, wants_json
from harness.cli.streams import guard_streams
from harness.errors import ExitCode, HarnessError, UsageError
from harness.text import alternatives
from harness.version import __version__

if TYPE_CHECKING:
    from typer import _click as click  # typer brings its own copy
    from typer._click.shell_completion import CompletionItem

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

SUMMARIES: dict[str, str] = {
    "sweep": "Compress a model, measure it everywhere, print a table.",
    "devices": "List attached devices.",
    "doctor": "List what this computer lacks.",
    "compress": "Compress a model without measuring it.",
    "evaluate": "Evaluate variants against the float model.",
    "partition": "Cut a model into stages.",
    "recipes": "List recipes and techniques.",
    "bench": "Measure one .tflite file as it is.",
    "compare": "Compare sweeps, variants or delegates.",
    "explain": "Show the evidence behind one number.",
    "history": "Show cells over time, and when they changed.",
    "lab": "Join computers with phones into one lab.",
    "nightly": "Sweep, compare with the last good night, and alert.",
    "noise": "Measure how far a device differs from itself.",
    "report": "Write sweeps as one offline HTML file.",
    "results": "List, show, export and prune stored sweeps.",
    "tools": "Fetch, add, list and probe benchmark_model binaries.",
    "parse-log": "Parse a saved benchmark_model log.",
    "phone": "Manage virtual phones and emulators.",
}
"""Shown by `harness --help` without loading the modules of the verbs."""


_VERBOSE = re.compile(r"-v+|--verbose")


class VerbGroup(typer.core.TyperGroup):
    """Load a verb's module only when that verb, or the list of all, is asked for."""

    _lists_verbs = False

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write plain help: loading rich and every verb would take longer than reading it."""
        self._lists_verbs = True
        try:
            super(typer.core.TyperGroup, self).format_help(ctx, formatter)
        finally:
            self._lists_verbs = False

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        if cmd_name not in VERBS:
            return None
        if self._lists_verbs:
            return typer.core.TyperCommand(cmd_name, help=SUMMARIES[cmd_name])
        command = typer.main.get_command(importlib.import_module(VERBS[cmd_name]).app)
        command.name = cmd_name
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take `-v` from anywhere in the command."""
        end = args.index("--") if "--" in args else len(args)
        verbose = [arg for arg in args[:end] if _VERBOSE.fullmatch(arg)]
        return super().parse_args(ctx, [*verbose, *(arg for arg in args[:end] if arg not in verbose), *args[end:]])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the verb that was probably meant. Raises `UsageError`."""
        name = args[0]
        if name in VERBS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        close = difflib.get_close_matches(name, VERBS)
        hint = f" Did you mean {alternatives([repr(verb) for verb in close])}?" if close else ""
        raise UsageError(f"No such command {name!r}.{hint}", "Run `harness --help` for all commands.")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete verbs without loading them."""
        self._lists_verbs = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._lists_verbs = False

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb; Ctrl-C ends it with its own exit code instead of the shell's 130."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error(HarnessError("Interrupted.", "Finished work is kept; run the same command again."))
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except typer.TyperException as error:
            if not wants_json():
                raise
            raise UsageError(error.format_message()) from error


app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
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
    verbose: int = typer.Option(
        0,
        "-v",
        "--verbose",
        count=True,
        show_default=False,
        help="Log decisions to stderr; -vv also logs each ADB call with its time.",
    ),
) -> None:
    if verbose:
        from harness.log_setup import log_to_stderr

        log_to_stderr(verbose)


def main() -> None:
    """Run the program: the entry point of the console script."""
    for ending in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C, so that phones are restored as they were
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup asks
            signal.signal(ending, signal.default_int_handler)
    guard_streams()
    try:
        app()
    except HarnessError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our pipe, such as `head`, has gone
        sys.stderr.close()
        sys.exit(ExitCode.OK)
