"""`harness nightly`: one night of a lab, from one line of cron."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import PlainOption, QuietOption, ResultsOption
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import HarnessError, UsageError
from harness.paths import default_results
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.analysis.history.night_check import Trouble
    from harness.nightly.night import NightOutcome
    from harness.store.store import Store

app = Verb(
    help="Sweep, compare with the last good night, and say by exit code, JUnit and webhook what is wrong.",
)


@app.command(epilog="Example: harness nightly lab.toml --until 06:00 --junit junit.xml")
def nightly(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's TOML file.")],
    until: Annotated[
        str | None,
        typer.Option(metavar="HH:MM", help="Stop measuring at this time; the least measured cells run first."),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit code 1 on: failed, slower, step, accuracy, memory, fallback, refused, left-out, or none; repeat "
            "for several. Default: failed, slower, step, accuracy, fallback."
        ),
    ] = None,
    effect: Annotated[float, typer.Option(min=0, max=1000, help="Smallest difference that matters, percent.")] = 2.0,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML; default: junit.xml in the sweep's folder.")] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="HTML report; default: report.html in the sweep's folder.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(envvar="HARNESS_WEBHOOK", show_envvar=True, help="URL that gets a short summary as JSON by POST."),
    ] = None,
    least_free_gb: Annotated[
        float, typer.Option("--min-free-gb", "--least-free-gb", min=0, help="Free disk space that a night needs, GB.")
    ] = 2.0,
    lab: Annotated[
        str | None, typer.Option(metavar="SCHEDULER", help="Measure the phones of a lab, such as tcp://HOST:8786.")
    ] = None,
    results: ResultsOption = None,
    quiet: bool = QuietOption,
    plain: bool = PlainOption,
    as_json: bool = JsonOption,
) -> None:
    """Sweep, compare every cell with its last good night, and say what is wrong.

    One night at a time on one computer in one store. The sweep is kept like any other: see `harness history`.
    """
    from harness.cli.progress import watch
    from harness.export.junit import junit_of_error
    from harness.files import write_atomically
    from harness.lab.device_source import open_source
    from harness.log_setup import hide_in_logs
    from harness.nightly.night import NightSettings, next_time, run_night
    from harness.nightly.webhook import post, require_webhook
    from harness.report.html.night_page import write_night_files
    from harness.report.terminal.night import message_of_error, night_message
    from harness.spec.sweep import load_sweep_spec

    watcher = watch(quiet=quiet, plain=plain)
    if webhook:
        hide_in_logs(webhook)
    url = require_webhook(webhook) if webhook else None
    settings = NightSettings(
        load_sweep_spec(spec_file, {}),
        results or default_results(),
        until=next_time(until, datetime.now()) if until else None,  # without a zone: the clock on the wall
        fail_on=_troubles(fail_on),
        effect=effect / 100,
        least_free_gb=least_free_gb,
    )

    def then(store: Store, outcome: NightOutcome) -> None:
        write_night_files(store, outcome, _say, junit=junit, page=page)

    try:
        with watcher:
            source = open_source(lab, str(settings.results), settings.spec, watcher)
            outcome = run_night(settings, watcher, source, then=then)
    except HarnessError as error:
        if junit:  # a CI server shows the reason only if there is a file
            write_atomically(junit, junit_of_error(error).encode())
        if url:
            _say(post(url, message_of_error(error)))
        raise
    for host in outcome.unreached:
        _say(f"No adb server answered at {host}: the phones attached there were not measured.")
    _print(outcome, as_json)
    if url:
        _say(post(url, night_message(outcome.check, outcome.fail_on, outcome.exit_code)))
    raise typer.Exit(outcome.exit_code)


def _troubles(names: list[str] | None) -> tuple[Trouble, ...]:
    from harness.analysis.history.night_check import BY_DEFAULT, Trouble

    if names is None:
        return BY_DEFAULT
    allowed = [trouble.value for trouble in Trouble]
    for name in names:
        require_choice("--fail-on", name, [*allowed, "none"])
    if "none" in names and len(names) > 1:
        raise UsageError("Cannot combine --fail-on none with other values.", "Leave out either.")
    return tuple(Trouble(name) for name in names if name != "none")


def _print(outcome: NightOutcome, as_json: bool) -> None:
    from harness.report.terminal.night import night_document, night_screen

    if as_json:
        document = night_document(outcome.check, outcome.fail_on)
        print_json(document | {"interrupted": outcome.interrupted, "exit_code": outcome.exit_code})
    else:
        console().print(night_screen(outcome.check, outcome.fail_on))


def _say(text: str) -> None:
    error_console().print(text, markup=False, soft_wrap=True)
