"""`harness noise`: how far a device differs from itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from harness.api.noise import DEFAULT_SWEEPS, FEWEST_SWEEPS, measure_noise
from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, print_json
from harness.cli.progress import watch
from harness.cli.verb import Verb
from harness.errors import ExitCode

app = Verb(
    help="Measure how far a device differs from itself, so that compare can tell a difference from noise.",
)


@app.command(epilog="Example: harness noise --device R58M123ABC")
def noise(
    device: Annotated[str, typer.Option(help="An ADB serial, or host.")],
    sweeps: Annotated[
        int, typer.Option(min=FEWEST_SWEEPS, max=100, help="Equal sweeps, one after the other.")
    ] = DEFAULT_SWEEPS,
    delegate: Annotated[
        list[str] | None, typer.Option(help="Delegate to measure; repeat for several; default: cpu.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="As for sweep; default: the default model.")] = None,
    preset: Annotated[str, typer.Option(help="quick, standard or strict.")] = "standard",
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Sweep the same variant several times (A/A), keep the sweeps, and print the device's noise floor.

    `harness compare` uses the floor of the latest A/A sweeps of a device. Run it again on another day: the floor then
    also knows what changes from day to day.
    """
    with watch() as watcher:
        found = measure_noise(
            device,
            sweeps=sweeps,
            delegates=delegate or ("cpu",),
            model=model,
            preset=preset,
            results=results,
            progress=watcher,
        )
    if found.interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    _print([asdict(floor) for floor in found.floors], as_json)


def _print(floors: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"confidence": 0.99, "floors": floors})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("device", "delegate", "A/A\nsweeps", "floor inside\na sweep", "floor between\nsweeps")
    for row in floors:
        within, between = (
            "-" if row[name] is None else f"{row[name]:.1%}" for name in ("floor_within_sweep", "floor_between_sweeps")
        )
        inside = f"{within} ({row['pairs']} pairs)"
        table.add_row(escape(row["serial"]), escape(row["delegate"]), str(row["sweeps"]), inside, between)
    console().print(table)
    console().print("No smaller difference is ever called one: 99 of 100 equal pairs stay under it.", markup=False)
