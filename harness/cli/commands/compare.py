"""`harness compare`: what is faster, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.errors import ExitCode, UsageError
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.analysis.cell_comparison import CellPair, ComparedCells, Subject
    from harness.analysis.comparable_cell import ComparableCell
    from harness.store.store import Store

app = typer.Typer(
    add_completion=False, help="Compare sweeps, variants or delegates, and say what is faster, and how sure that is."
)

_SPEC_KEYS = {"variant": "recipes", "delegate": "delegates"}
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
    from harness.analysis.cell_comparison import Regression, Subject, compare_cells
    from harness.analysis.comparable_cell import CONDITIONS
    from harness.analysis.device_noise import read_noise
    from harness.store.store import Store

    _require("--by", [by], [subject.value for subject in Subject])
    _require("--allow", allow or [], list(CONDITIONS))
    _require("--fail-on", fail_on or [], [regression.value for regression in Regression])
    _require("--format", [form], FORMATS)
    with Store.open(results or default_results(), must_exist=True) as store:
        subject = Subject(by)
        couples = (
            _between(store, a or "latest~1", b or "latest")
            if subject is Subject.SWEEP
            else _inside(store, a or "latest", b, subject, baseline)
        )
        at_hand = [side for pair_cells in couples for side in (pair_cells.a, pair_cells.b) if side]
        compared = compare_cells(couples, read_noise(store, at_hand), effect=effect / 100, allow=allow or ())
    if not compared:
        raise UsageError("A and B have no cell in common.", "See `harness results show SWEEP` for what each holds.")
    _print(compared, "json" if as_json else form, by, effect)
    raise typer.Exit(_exit_code(compared, fail_on or []))


def _require(option: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    for value in given:
        if value not in allowed:
            raise UsageError(f"{option}: found {value!r}.", f"Allowed are: {', '.join(allowed)}.")


@dataclass(frozen=True)
class _Operand:
    """What `SWEEP` or `SWEEP:VARIANT` names."""

    sweep_id: str
    variant: str | None
    sides: Sequence[ComparableCell]


def _operand(store: Store, text: str) -> _Operand:
    from harness.analysis.comparable_cell import read_comparable_cells

    name, _, variant = text.partition(":")
    sweep_id = store.find_sweep(name).id
    sides = read_comparable_cells(store, sweep_id)
    if not sides:
        raise UsageError(f"Sweep {sweep_id} has no cells: nothing was measured.", "See `harness results list`.")
    if not variant:
        return _Operand(sweep_id, None, sides)
    chosen = [side for side in sides if side.cell.variant == variant]
    if not chosen:
        raise UsageError(f"Sweep {sweep_id} has no variant {variant!r}.", f"It has: {_names(sides, 'variant')}.")
    return _Operand(sweep_id, variant, chosen)


def _names(sides: Sequence[ComparableCell], column: str) -> str:
    return ", ".join(dict.fromkeys(str(getattr(side.cell, column)) for side in sides))


def _between(store: Store, a: str, b: str) -> list[CellPair]:
    from harness.analysis.cell_comparison import Subject, pair_cells

    first, second = _operand(store, a), _operand(store, b)
    if (first.variant is None) != (second.variant is None):
        raise UsageError(f"{a} and {b}: only one of them names a variant.", "Name a variant on both sides or on none.")
    if (first.sweep_id, first.variant) == (second.sweep_id, second.variant):
        raise UsageError(f"{a} and {b} are the same.", "Name two sweeps, or compare inside one: --by variant.")
    subject = Subject.VARIANT if first.variant else Subject.SWEEP
    return pair_cells(first.sides, second.sides, subject)


def _inside(store: Store, a: str, b: str | None, subject: Subject, baseline: str | None) -> list[CellPair]:
    """Couple every variant or delegate of one sweep with the baseline."""
    from harness.analysis.cell_comparison import COLUMN_OF, pair_cells

    if b is not None:
        raise UsageError(f"--by {subject} compares inside one sweep; found a second one: {b}.", "Leave it out.")
    operand = _operand(store, a)
    column = COLUMN_OF[subject]
    names = list(dict.fromkeys(str(getattr(side.cell, column)) for side in operand.sides))
    base = baseline or _first_named(store, operand.sweep_id, _SPEC_KEYS[subject.value], names)
    if base not in names:
        raise UsageError(f"--baseline: found {base!r}.", f"The sweep has: {', '.join(names)}.")
    if len(names) == 1:
        raise UsageError(f"Sweep {operand.sweep_id} has one {subject} only: {base}.", "Name a sweep with several.")
    groups = {name: [side for side in operand.sides if getattr(side.cell, column) == name] for name in names}
    couples = [found for name in names if name != base for found in pair_cells(groups[base], groups[name], subject)]
    return [found for found in couples if found.a and found.b]  # in one sweep, a cell that was not planned is no loss


def _first_named(store: Store, sweep_id: str, key: str, names: Sequence[str]) -> str:
    """Return which of `names` comes first in the sweep's spec, else in the alphabet: `cpu` before all delegates."""
    listed = store.find_sweep(sweep_id).spec.get(key)
    return next((name for name in listed if name in names), min(names)) if isinstance(listed, list) else min(names)


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


def _exit_code(compared: Sequence[ComparedCells], fail_on: Sequence[str]) -> ExitCode:
    """Return 1 for what is named, and also where nothing at all could be compared: such a gate has seen nothing."""
    from harness.analysis.cell_comparison import Regression

    blind = bool(fail_on) and all(Regression.REFUSED in cells.regressions for cells in compared)
    worse = any(regression in fail_on for cells in compared for regression in cells.regressions)
    return ExitCode.CELL_FAILED if worse or blind else ExitCode.OK
