"""`harness history`: cells over nights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, print_json
from harness.cli.verb import Verb
from harness.errors import UsageError
from harness.paths import default_results
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.analysis.history.steps import CellHistory

app = Verb(help="Show cells over the stored sweeps, and from which night on they were slower or faster.")

FORMATS = ("table", "json", "markdown")
_NAME_PARTS = (0, 2)


@app.command(epilog="Example: harness history int8 gpu --device R58M123ABC")
def history(
    cell: Annotated[
        list[str] | None, typer.Argument(metavar="[VARIANT DELEGATE]", help="One cell; default: all, at a glance.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Serial, where several devices have the cell.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads, where the cell was measured with several.")] = None,
    last: Annotated[int, typer.Option(min=1, max=1000, help="Latest nights to examine per cell.")] = 60,
    effect: Annotated[float, typer.Option(min=0, max=1000, help="Smallest step that matters, percent.")] = 2.0,
    results: ResultsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, json or markdown.")] = "table",
    as_json: bool = JsonOption,
) -> None:
    """Show one cell night by night, or all cells with the steps in their latency grouped by what changed there.

    Nights are compared only if they are alike: where the tool, the operating system, the profile or the like
    changed, that is said.
    """
    from harness.analysis.history.nights import read_nights
    from harness.analysis.history.steps import find_shifts
    from harness.store.store import Store

    names = cell or []
    if len(names) not in _NAME_PARTS:
        raise UsageError(f"Invalid cell {' '.join(names)!r}.", "Name VARIANT DELEGATE, or nothing for all cells.")
    require_choice("--format", form, FORMATS)
    variant, delegate = names or (None, None)
    with Store.open(results or default_results(), must_exist=True) as store:
        found = read_nights(store, variant=variant, delegate=delegate, serial=device, threads=threads, last=last)
    if not found:
        wanted = " ".join([*names, *(["--device", device] if device else [])])
        raise UsageError(f"No sweep holds {wanted or 'any cell'}.", "See `harness results show latest` for the names.")
    _print([find_shifts(nights, effect=effect / 100) for nights in found], "json" if as_json else form, one=bool(names))


def _print(histories: Sequence[CellHistory], form: str, *, one: bool) -> None:
    from harness.analysis.history.steps import group_by_cause
    from harness.report.terminal.history import (
        cell_screen,
        history_document,
        overview_screen,
        plain_nights,
        plain_overview,
    )

    causes = group_by_cause(step for history in histories for step in history.steps)
    if form == "json":
        print_json(history_document(histories, causes))
    elif form == "markdown":
        from harness.export.tables import text_frame
        from harness.export.text_formats import to_markdown

        tables = [plain_nights(history) for history in histories] if one else [plain_overview(histories)]
        typer.echo("\n".join(to_markdown(text_frame(table)) for table in tables), nl=False)
    elif one:
        for history in histories:
            screen = console()
            screen.print(cell_screen(history, width=screen.width))
    else:
        console().print(overview_screen(histories, causes))
