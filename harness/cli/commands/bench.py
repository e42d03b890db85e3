"""`harness bench`: one existing `.tflite` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    PlainOption,
    QuietOption,
    RequireFullDelegationOption,
    ResultsOption,
    SustainedOption,
    duration_s,
)
from harness.cli.output import JsonOption
from harness.cli.run import run_sweep
from harness.errors import UsageError

app = typer.Typer(add_completion=False, help="Measure one .tflite file as it is.")


@app.command(epilog="Example: harness bench model.tflite --device virtual --delegate gpu")
def bench(
    file: Annotated[Path, typer.Argument(help="The .tflite file.")],
    device: Annotated[
        list[str] | None, typer.Option(help="An ADB serial, host, virtual or virtual:RECORDING; repeat for several.")
    ] = None,
    delegate: Annotated[
        list[str] | None, typer.Option(help="cpu, cpu-builtin, gpu, nnapi or nnapi:ACCELERATOR; repeat for several.")
    ] = None,
    require_full_delegation: bool = RequireFullDelegationOption,
    sustained: str | None = SustainedOption,
    threads: Annotated[list[int] | None, typer.Option(help="CPU threads; repeat for several.")] = None,
    preset: Annotated[str, typer.Option(help="quick, standard or strict: time against certainty.")] = "quick",
    results: ResultsOption = None,
    quiet: bool = QuietOption,
    plain: bool = PlainOption,
    as_json: bool = JsonOption,
) -> None:
    """Measure one .tflite file as it is: a sweep of one variant, its outputs checked on random inputs."""
    from harness.spec.sweep import load_sweep_spec
    from harness.sweep.runner import AS_IS_RECIPE

    if file.suffix != ".tflite":
        raise UsageError(f"{file} is not a .tflite file.", "For other models: harness sweep --model MODEL.")
    overrides = {
        "model": str(file),
        "recipes": [AS_IS_RECIPE],
        "devices": device,
        "delegates": delegate,
        "threads": threads,
        "preset": preset,
        "require_full_delegation": require_full_delegation,
        "measurement": {"sustained_s": duration_s(sustained)} if sustained else None,
    }
    spec = load_sweep_spec(None, {key: value for key, value in overrides.items() if value})
    run_sweep(spec, results=results, as_json=as_json, quiet=quiet, plain=plain)
