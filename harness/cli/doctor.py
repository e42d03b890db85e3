"""`harness doctor`: what is missing on this machine, and how to get it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from harness.cli.output import JsonOption, console, folding_table, print_json
from harness.errors import ExitCode

app = typer.Typer(add_completion=False, help="Tell what is missing on this machine.")


@app.command(epilog="Example: harness doctor --json")
def doctor(as_json: bool = JsonOption) -> None:
    """Tell what is missing on this machine and how to get it; exit code 3 when the main job cannot run."""
    from rich.markup import escape

    from harness.cli.commands.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        table = folding_table("what", "state", "found", "what to do")
        for finding in findings:
            state = "[green]ok" if finding.ok else ("[red]missing" if finding.needed else "[yellow]missing")
            table.add_row(escape(finding.what), state, escape(finding.found), escape(finding.advice))
        console().print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(ExitCode.NOTHING_TO_RUN_ON)
