"""`harness bench`: one existing `.tflite` file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.api import bench as run_bench
from harness.cli.options import (
    DelegatesOption,
    DevicesOption,
    InvocationsOption,
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
    thread_counts,
)
from harness.cli.output import JsonOption
from harness.cli.progress import watch
from harness.cli.run import end_with
from harness.cli.verb import Verb

app = Verb(help="Measure one .tflite file as it is.")


@app.command(epilog="Example: harness bench model.tflite --device virtual --delegate gpu")
def bench(
    file: Annotated[Path, typer.Argument(help="The .tflite file.")],
    device: DevicesOption = None,
    delegate: DelegatesOption = None,
    require_full_delegation: bool = RequireFullDelegationOption,
    sustained: str | None = SustainedOption,
    threads: ThreadsOption = None,
    preset: PresetOption = None,
    invocations: InvocationsOption = None,
    runs: RunsOption = None,
    timeout_s: TimeoutOption = None,
    prepare: PrepareOption = True,
    results: ResultsOption = None,
    quiet: bool = QuietOption,
    plain: bool = PlainOption,
    as_json: bool = JsonOption,
) -> None:
    """Measure one .tflite file as it is: a sweep of one variant, its outputs checked on random inputs."""
    from harness.analysis.shipping.choice import ShipLimits

    measurement = {
        "invocations": invocations,
        "runs": runs,
        "timeout_s": timeout_s,
        "sustained_s": duration_s(sustained) if sustained else None,
    }
    settings = {
        "require_full_delegation": require_full_delegation or None,
        "prepare": None if prepare else False,
        "measurement": {key: value for key, value in measurement.items() if value is not None} or None,
    }
    watcher = watch(quiet=quiet, plain=plain)
    with watcher:
        found = run_bench(
            file,
            devices=device,
            delegates=delegate,
            threads=thread_counts(threads),
            preset=preset or "quick",
            settings={key: value for key, value in settings.items() if value is not None},
            results=results,
            progress=watcher,
        )
    fail_on = "fell-back" if require_full_delegation else "failed"
    end_with(found, watcher, limits=ShipLimits(), fail_on=fail_on, as_json=as_json, quiet=quiet)
