"""`harness explain`: everything behind one number."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, print_json
from harness.cli.verb import Verb
from harness.errors import UsageError
from harness.paths import default_results

app = Verb(help="Show everything behind one number, and which promises hold for it.")

_NAME_PARTS = 2


@app.command(epilog="Example: harness explain latest int8 gpu --device R58M123ABC")
def explain(
    row: Annotated[
        list[str],
        typer.Argument(metavar="[SWEEP] VARIANT DELEGATE", help="SWEEP is an id, latest (default), latest~1."),
    ],
    device: Annotated[str | None, typer.Option(help="Serial, where several devices have the row.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads, where the row was measured with several.")] = None,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Show the evidence behind one row of a sweep: how it was measured, on what, and what may be believed."""
    from harness.analysis.evidence import RowName, read_evidence
    from harness.analysis.promises import judge_promises
    from harness.report.terminal.explain import explain_document, explain_screen
    from harness.store.store import Store

    if len(row) not in (_NAME_PARTS, _NAME_PARTS + 1):
        raise UsageError(f"A row has two or three names; found {len(row)}.", "Give [SWEEP] VARIANT DELEGATE.")
    *sweep, variant, delegate = row
    with Store.open(results or default_results(), must_exist=True) as store:
        name = RowName(variant, delegate, device, threads)
        evidence = read_evidence(store, sweep[0] if sweep else "latest", name)
    promises = judge_promises(evidence)
    if as_json:
        print_json(explain_document(evidence, promises))
    else:
        console().print(explain_screen(evidence, promises))
