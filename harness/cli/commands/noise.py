"""`harness noise`: how far a device differs from itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, print_json
from harness.errors import ExitCode, MissingPrerequisiteError, UsageError
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.analysis.noise_floor import NoiseFloor
    from harness.spec.sweep import SweepSpec
    from harness.store.store import Store

app = typer.Typer(
    add_completion=False,
    help="Measure how far a device differs from itself, so that compare can tell a difference from noise.",
)

RECIPE = "fp32"
"""Every model has it, and every tool runs it."""
FEWEST_SWEEPS = 3
DEFAULT_SWEEPS = 10
"""The floor between sweeps is 3.3 times sqrt(2) their deviation with ten, 4.0 times with six, 9.9 times with three."""


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
    from harness.devices.device_ref import DeviceRef, RefKind
    from harness.store.store import Store

    if DeviceRef.parse(device).kind is RefKind.VIRTUAL:
        raise UsageError(
            "A virtual phone that lives for one sweep has no floor to keep.",
            "Start one with `harness phone start`, then name its serial.",
        )
    with Store.open(results or default_results()) as store:
        serials = _measure(store, _spec(device, delegate, model, preset), device, sweeps)
        floors = _floors(store, serials)
    _print(floors, as_json)


def _spec(device: str, delegates: list[str] | None, model: str | None, preset: str) -> SweepSpec:
    from harness.spec.sweep import load_sweep_spec

    overrides: dict[str, Any] = {
        "model": model,
        "recipes": [RECIPE],
        "devices": [device],
        "delegates": delegates or ["cpu"],
        "preset": preset,
        "purpose": "noise",
        "measurement": {"accuracy_samples": 0, "memory_invocations": 0, "init_pairs": 0},
    }
    return load_sweep_spec(None, {key: value for key, value in overrides.items() if value})


def _measure(store: Store, spec: SweepSpec, device: str, sweeps: int) -> set[str]:
    """Run the sweeps and return the serials that they measured. Ends the program where the user interrupts it."""
    from harness.cli.progress import watch
    from harness.store.records import SweepStatus
    from harness.sweep.runner import SweepRunner

    serials: set[str] = set()
    with watch() as watcher:
        for index in range(sweeps):
            watcher.note(f"A/A sweep {index + 1} of {sweeps}")
            of_this_turn = spec.model_copy(update={"seed": spec.seed + index})
            outcome = SweepRunner(store, watcher).run(of_this_turn, [device])
            if outcome.status is SweepStatus.INTERRUPTED:
                raise typer.Exit(ExitCode.INTERRUPTED)
            serials |= _measured(store, outcome.sweep_id, device)
    return serials


def _measured(store: Store, sweep_id: str, device: str) -> set[str]:
    """Return the serials that a sweep measured. Raises `MissingPrerequisiteError`: what fails once fails ten times."""
    from harness.analysis.comparable_cell import read_comparable_cells

    serials = {side.serial for side in read_comparable_cells(store, sweep_id) if side.latencies_us}
    if not serials:
        failures = [row.failure_message for row in (*store.devices(sweep_id), *store.invocations(sweep_id))]
        reason = next((message for message in failures if message), "no process succeeded.")
        raise MissingPrerequisiteError(
            f"{device} could not be measured: {reason}", "Run `harness devices` to see its state."
        )
    return serials


def _floors(store: Store, serials: set[str]) -> list[dict[str, Any]]:
    """Return one row a device and delegate, from all A/A sweeps that are stored of it as it is now."""
    from harness.analysis.device_noise import between_floor, noise_cells, within_floor

    measured = [side for side in noise_cells(store, serials) if side.latencies_us]
    newest = {side.serial: side.conditions["os"] for side in reversed(measured)}
    groups: dict[tuple[str, str], list[Any]] = {}
    for side in measured:
        if side.conditions["os"] == newest[side.serial]:
            groups.setdefault((side.serial, side.cell.delegate_requested or ""), []).append(side)
    rows = []
    for (serial, delegate), sides in groups.items():
        pairs = len(sides[0].latencies_us)
        rows.append(
            {
                "serial": serial,
                "delegate": delegate,
                "sweeps": len(sides),
                "pairs": pairs,
                "floor_within_sweep": _value(within_floor(sides, pairs)),
                "floor_between_sweeps": _value(between_floor(sides)),
            }
        )
    return rows


def _value(floor: NoiseFloor | None) -> float | None:
    return floor.value if floor else None


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
