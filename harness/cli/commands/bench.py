"""`harness bench`: one existing `.tflite` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.api import bench as run_bench
from harness.cli.options import (
    PlainOption,
    QuietOption,
    RequireFullDelegationOption,
    ResultsOption,
    SustainedOption,
    duration_s,
)
from harness.cli.output import JsonOption
from harness.cli.progress import watch
from harness.cli.run import end_with

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
    from harness.analysis.shipping.choice import ShipLimits

    settings = {
        "require_full_delegation": require_full_delegation,
        "measurement": {"sustained_s": duration_s(sustained)} if sustained else None,
    }
    watcher = watch(quiet=quiet, plain=plain)
    with watcher:
        found = run_bench(
            file,
            devices=device,
            delegates=delegate,
            threads=threads,
            preset=preset,
            settings={key: value for key, value in settings.items() if value},
            results=results,
            progress=watcher,
        )
    fail_on = "fell-back" if require_full_delegation else "failed"
    end_with(found, watcher, limits=ShipLimits(), fail_on=fail_on, as_json=as_json, quiet=quiet)
