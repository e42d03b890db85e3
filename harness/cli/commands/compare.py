"""`harness compare`: what is faster, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from harness.api import compare as compare_sweeps
from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.verb import Verb
from harness.errors import ExitCode
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.analysis.cell_comparison import ComparedCells

app = Verb(help="Compare sweeps, variants or delegates, and say what is faster, and how sure that is.")

FORMATS = ("table", "json", "markdown", "csv")


@app.command(epilog="Example: harness compare latest~1 latest --fail-on slower")
def compare(
    a: Annotated[
        str | None, typer.Argument(metavar="[A]", help="SWEEP or SWEEP:VARIANT; SWEEP is an id, latest or latest~1.")
    ] = None,
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The same; default: latest.")] = None,
    by: Annotated[str, typer.Option(help="sweep (A against B), or inside A alone: variant or delegate.")] = "sweep",
    baseline: Annotated[
        str | None, typer.Option(help="With --by: what all others are compared with; default: the sweep's first.")
    ] = None,
    effect: Annotated[float, typer.Option(min=0, max=1000, help="Smallest difference that matters, percent.")] = 2.0,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="What may differ: device, os, tool, cores, mode, profile, model, value; repeat for several."),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="Exit code 1 if B is slower, or: accuracy, memory, fallback, refused; repeat for several."),
    ] = None,
    results: ResultsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, json, markdown or csv.")] = "table",
    as_json: bool = JsonOption,
) -> None:
    """Compare two sweeps, two variants, or all variants or delegates of one sweep with the first.

    A is what was, B what is now. Only like is compared with like; a difference is called one only above the noise.
    """
    from harness.analysis.cell_comparison import Regression, Subject
    from harness.analysis.comparable_cell import CONDITIONS

    require_choice("--by", by, [subject.value for subject in Subject])
    for name in allow or ():
        require_choice("--allow", name, list(CONDITIONS))
    for name in fail_on or ():
        require_choice("--fail-on", name, [regression.value for regression in Regression])
    require_choice("--format", form, FORMATS)
    found = compare_sweeps(
        a, b, by=by, baseline=baseline, effect=effect / 100, allow=tuple(allow or ()), results=results
    )
    _print(found.cells, "json" if as_json else form, by, effect)
    raise typer.Exit(ExitCode.CELL_FAILED if found.fails_on(fail_on or ()) else ExitCode.OK)


def _print(compared: Sequence[ComparedCells], form: str, by: str, effect: float) -> None:
    from harness.report.terminal.comparison import comparison_table, finding_rows, plain_findings

    if form == "json":
        print_json({"by": by, "smallest_effect": effect / 100, "confidence": 0.99, "rows": finding_rows(compared)})
    elif form == "table":
        console().print(comparison_table(compared))
        a, b = (
            {side.sweep_id for side in sides if side} for sides in zip(*((c.a, c.b) for c in compared), strict=True)
        )
        error_console().print(f"A: {', '.join(a)}; B: {', '.join(b)}", markup=False, soft_wrap=True)
    else:
        from harness.export.tables import text_frame
        from harness.export.text_formats import to_csv, to_markdown

        text = {"markdown": to_markdown, "csv": to_csv}[form](text_frame(plain_findings(compared)))
        typer.echo(text, nl=False)
