"""`harness sweep`: compress a model and measure its variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.api import read_sweep_spec
from harness.api import sweep as run_sweep
from harness.cli.completion import complete_sweeps
from harness.cli.options import (
    AllowCodeOption,
    DataOption,
    DelegatesOption,
    DevicesOption,
    DryRunOption,
    InvocationsOption,
    ModelOption,
    PixelsOption,
    PlainOption,
    PrepareOption,
    PresetOption,
    QuietOption,
    RequireFullDelegationOption,
    ResultsOption,
    RunsOption,
    SustainedOption,
    ThreadsOption,
    TimeoutOption,
    duration_s,
    let_code_run,
    pixel_range,
    recipes_option,
    thread_counts,
)
from harness.cli.output import JsonOption, console, error_console, folding_table, print_json
from harness.cli.progress import watch
from harness.cli.run import end_with
from harness.cli.verb import Verb
from harness.errors import UsageError
from harness.paths import default_results
from harness.text import require_choice

if TYPE_CHECKING:
    from harness.cli.progress import QuietWatcher
    from harness.spec.sweep import SweepSpec

app = Verb(help="Compress a model, measure the variants on every device, and print the table.")

FAIL_ON = ("failed", "fell-back", "none")


@app.command(epilog="Example: harness sweep --device virtual --recipe fp32 --recipe int8 --delegate cpu --delegate gpu")
def sweep(
    spec_file: Annotated[
        Path | None,
        typer.Argument(metavar="SPEC|MODEL", help="The sweep's TOML file, or a model; default: the default sweep."),
    ] = None,
    model: ModelOption = None,
    data: DataOption = None,
    pixels: PixelsOption = None,
    recipe: Annotated[list[str] | None, recipes_option("fp32, fp16, dynamic-int8, int8")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Points of top-1 that quantized variants may lose; costly layers go back to float."
        ),
    ] = None,
    device: DevicesOption = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST[:PORT]", help="A computer whose adb server holds phones; repeat for several."),
    ] = None,
    lab: Annotated[
        str | None, typer.Option(metavar="SCHEDULER", help="Measure the phones of a lab, such as tcp://HOST:8786.")
    ] = None,
    delegate: DelegatesOption = None,
    require_full_delegation: bool = RequireFullDelegationOption,
    sustained: str | None = SustainedOption,
    threads: ThreadsOption = None,
    max_latency: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: median latency, ms.")] = None,
    max_size: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: file, kB.")] = None,
    max_memory: Annotated[float | None, typer.Option(min=0, help="Limit of what to ship: memory, MB.")] = None,
    preset: PresetOption = None,
    invocations: InvocationsOption = None,
    runs: RunsOption = None,
    accuracy_samples: Annotated[
        int | None, typer.Option(help="Labelled samples per cell; 0 skips accuracy.", show_default="500, 2000 or 10000")
    ] = None,
    timeout_s: TimeoutOption = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the order of invocations.", show_default="1")] = None,
    broken_gpu: Annotated[
        bool, typer.Option("--broken-gpu", help="Give virtual phones a GPU driver that fails silently.")
    ] = False,
    prepare: PrepareOption = True,
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
        typer.Option(
            metavar="ID",
            help="Resume a sweep, also with other settings: its id, or latest.",
            autocompletion=complete_sweeps,
        ),
    ] = None,
    dry_run: DryRunOption = False,
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
    if spec_file and spec_file.suffix != ".toml":
        if model:
            raise UsageError(f"{spec_file} is not a sweep's TOML file.", "Name one model: as MODEL or with --model.")
        model, spec_file = str(spec_file), None
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
        "threads": thread_counts(threads),
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
    watcher = watch(quiet=quiet, plain=plain)
    if dry_run and resume:
        _print_rest(place, resume, spec, as_json)
        return
    if dry_run:
        _print_plan(spec, lab, place, watcher, as_json)
        return
    with watcher:
        found = run_sweep(spec, results=place, resume=resume, lab=lab, progress=watcher)
    if spec.require_full_delegation and fail_on == "failed":
        fail_on = "fell-back"
    limits = ShipLimits(max_drop or ShipLimits.max_drop_points, max_size, max_latency, max_memory)
    end_with(found, watcher, limits=limits, fail_on=fail_on, as_json=as_json, quiet=quiet)


def _print_plan(spec: SweepSpec, lab: str | None, place: str, watcher: QuietWatcher, as_json: bool) -> None:
    """Check everything as the sweep itself does and print what it would do."""
    from dataclasses import asdict

    from rich.markup import escape

    from harness.lab.device_source import open_source
    from harness.sweep.plan import expected_duration_s, outline
    from harness.sweep.preflight import check_sweep

    with watcher, open_source(lab, place, spec, watcher) as source:
        rows = outline(spec, check_sweep(spec, source, watcher).delegates)
    seconds = expected_duration_s(rows)
    if as_json:
        print_json({"plan": [asdict(row) for row in rows], "expected_s": seconds, "spec": spec.model_dump(mode="json")})
        return
    title = escape(f"Plan: {spec.model}, preset {spec.preset}")
    numeric = ("threads", "invocations")
    table = folding_table("device", "recipe", "delegate", *numeric, numeric=numeric, title=title)
    for row in rows:
        table.add_row(*map(escape, (row.device, row.recipe, row.delegate)), str(row.threads), str(row.invocations))
    console().print(table)
    error_console().print(
        f"{len(rows)} cells, {sum(row.invocations for row in rows)} invocations; about {seconds / 60:.1f} minutes "
        "if one inference takes 10 ms, building the variants aside. Nothing was run.",
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
