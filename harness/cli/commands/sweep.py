"""`harness sweep`: compress a model and measure its variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.api import read_sweep_spec
from harness.api import sweep as run_sweep
from harness.cli.options import (
    AllowCodeOption,
    DataOption,
    PixelsOption,
    PlainOption,
    QuietOption,
    RequireFullDelegationOption,
    ResultsOption,
    SustainedOption,
    duration_s,
    let_code_run,
    pixel_range,
)
from harness.cli.output import JsonOption, console, error_console, folding_table, print_json
from harness.cli.progress import watch
from harness.cli.run import end_with
from harness.paths import default_results
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.spec.sweep import SweepSpec

app = typer.Typer(
    add_completion=False, help="Compress a model, measure the variants on every device, and print the table."
)

FAIL_ON = ("failed", "fell-back", "none")


@app.command(epilog="Example: harness sweep --device virtual --recipe fp32 --recipe int8 --delegate cpu --delegate gpu")
def sweep(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="The sweep's TOML file; without one, the default sweep.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name, a model's .toml or own file, or a SavedModel folder.")
    ] = None,
    data: DataOption = None,
    pixels: PixelsOption = None,
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe's name or TOML file; repeat for several.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Points of top-1 that quantized variants may lose; costly layers go back to float."
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="An ADB serial, host, virtual or virtual:RECORDING; repeat for several."),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="A computer whose adb server holds phones; repeat for several."),
    ] = None,
    lab: Annotated[
        str | None, typer.Option(metavar="SCHEDULER", help="Measure the phones of a lab, such as tcp://HOST:8786.")
    ] = None,
    delegate: Annotated[
        list[str] | None, typer.Option(help="cpu, cpu-builtin, gpu, nnapi or nnapi:ACCELERATOR; repeat for several.")
    ] = None,
    require_full_delegation: bool = RequireFullDelegationOption,
    sustained: str | None = SustainedOption,
    threads: Annotated[list[int] | None, typer.Option(help="CPU threads; repeat for several.")] = None,
    max_latency: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: median latency, ms.")] = None,
    max_size: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: file, kB.")] = None,
    max_memory: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: memory, MB.")] = None,
    preset: Annotated[str | None, typer.Option(help="quick, standard or strict: time against certainty.")] = None,
    invocations: Annotated[int | None, typer.Option(help="Invocations per cell, at least 5.")] = None,
    runs: Annotated[int | None, typer.Option(help="Timed runs per invocation.")] = None,
    accuracy_samples: Annotated[int | None, typer.Option(help="Labelled samples per cell; 0 skips accuracy.")] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Time limit per invocation, in seconds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the order of invocations.")] = None,
    broken_gpu: Annotated[
        bool, typer.Option("--broken-gpu", help="Give virtual phones a GPU driver that fails silently.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare/--no-prepare", help="Prepare phones as their profiles ask, and restore them.")
    ] = True,
    per: Annotated[
        str | None,
        typer.Option(
            metavar="device|model", help="Measure each cell on every phone (default), or on one phone per model."
        ),
    ] = None,
    may_reboot: Annotated[
        bool, typer.Option("--may-reboot", help="Reboot a failing phone once before leaving it out.")
    ] = False,
    results: ResultsOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Resume a sweep, also with other settings: its id, or latest."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its expected duration.")] = False,
    fail_on: Annotated[
        str,
        typer.Option(help="What makes the exit code 1: failed (all but a fall-back), fell-back (that too), or none."),
    ] = "failed",
    allow_code: bool = AllowCodeOption,
    quiet: bool = QuietOption,
    plain: bool = PlainOption,
    as_json: bool = JsonOption,
) -> None:
    """Compress a model, measure the variants on every device, and print the table.

    Measures all attached phones in parallel; without a phone, this host.
    """
    from harness.analysis.shipping.choice import ShipLimits

    if allow_code:
        let_code_run()
    place = results or default_results()
    measurement = {
        "invocations": invocations,
        "runs": runs,
        "accuracy_samples": accuracy_samples,
        "timeout_s": timeout_s,
        "sustained_s": duration_s(sustained) if sustained else None,
    }
    overrides: dict[str, Any] = {
        "model": model,
        "data": data,
        "pixels": pixel_range(pixels),
        "recipes": recipe,
        "devices": device,
        "hosts": host,
        "delegates": delegate,
        "threads": threads,
        "max_drop_points": max_drop,
        "preset": preset,
        "seed": seed,
        "broken_gpu": broken_gpu or None,
        "require_full_delegation": require_full_delegation or None,
        "prepare": None if prepare else False,
        "may_reboot": may_reboot or None,
        "per": per,
        "measurement": {key: value for key, value in measurement.items() if value is not None} or None,
    }
    given = {key: value for key, value in overrides.items() if value or value is False}
    require_choice("--fail-on", fail_on, FAIL_ON)
    spec, resume = read_sweep_spec(spec_file, given, resume=resume, results=place)
    if dry_run and resume:
        _print_rest(place, resume, spec, as_json)
        return
    if dry_run:
        _print_plan(spec, as_json)
        return
    watcher = watch(quiet=quiet, plain=plain)
    with watcher:
        found = run_sweep(spec, results=place, resume=resume, lab=lab, progress=watcher)
    if spec.require_full_delegation and fail_on == "failed":
        fail_on = "fell-back"
    limits = ShipLimits(max_drop or ShipLimits.max_drop_points, max_size, max_latency, max_memory)
    end_with(found, watcher, limits=limits, fail_on=fail_on, as_json=as_json, quiet=quiet)


def _print_plan(spec: SweepSpec, as_json: bool) -> None:
    """Print what would be done, from names alone: no device is asked, nothing is converted."""
    from dataclasses import asdict

    from harness.benchmark.delegates import find_delegate
    from harness.compression.recipes import find_recipe
    from harness.sweep.plan import expected_duration_s, outline
    from harness.sweep.targets import planned_delegates

    spec.find_model()
    for recipe in spec.recipes:
        find_recipe(recipe)
    for delegate in spec.delegates:
        find_delegate(delegate)
    rows = outline(spec, planned_delegates(spec))
    seconds = expected_duration_s(rows)
    if as_json:
        print_json({"plan": [asdict(row) for row in rows], "expected_s": seconds, "spec": spec.model_dump(mode="json")})
        return
    title = f"Plan: {spec.model}, preset {spec.preset}"
    numeric = ("threads", "invocations")
    table = folding_table("device", "recipe", "delegate", *numeric, numeric=numeric, title=title)
    for row in rows:
        table.add_row(row.device, row.recipe, row.delegate, str(row.threads), str(row.invocations))
    console().print(table)
    error_console().print(
        f"{len(rows)} cells, {sum(row.invocations for row in rows)} invocations; about {seconds / 60:.1f} minutes "
        "if one inference takes 10 ms. Nothing was run.",
        soft_wrap=True,
    )


def _print_rest(place: str, sweep_id: str, spec: SweepSpec, as_json: bool) -> None:
    """Print what a stored sweep would reuse and what remains, as far as the store alone can say."""
    from harness.store.store import Store
    from harness.sweep.resume import changed_settings, changes_sentence, preview

    with Store.open(place, must_exist=True) as store:
        record = store.find_sweep(sweep_id)
        changes = changed_settings(record, spec)
        devices = preview(store, record, spec)
    if as_json:
        rest = [{"serial": serial, **earlier.as_json()} for serial, earlier in devices.items()]
        print_json({"sweep_id": sweep_id, "changes": changes, "devices": rest, "spec": spec.model_dump(mode="json")})
        return
    told = [changes_sentence(sweep_id, changes)]
    for serial, earlier in devices.items():
        told += [earlier.sentence(serial), *earlier.reasons(serial)]
    told += [f"{name}: nothing is stored of it." for name in spec.devices if name not in devices]
    for sentence in told:
        console().print(sentence, markup=False, soft_wrap=True)
    error_console().print("No device was asked. Nothing was run.", soft_wrap=True)
