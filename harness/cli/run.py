"""Run a sweep from the command line: choose devices, draw progress, print the table, end with the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from harness.errors import ExitCode
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.spec.sweep import SweepSpec


def run_sweep(
    spec: SweepSpec,
    *,
    results: str | None = None,
    lab: str | None = None,
    resume: str | None = None,
    fail_on: str = "failed",
    as_json: bool = False,
    quiet: bool = False,
    plain: bool = False,
) -> None:
    """Run a sweep, or carry on the stored one named by `resume`. Always ends with `typer.Exit`.

    With the address of a `lab`, on the phones of its hosts.
    """
    from harness.cli.progress import watch
    from harness.cli.show import print_sweep
    from harness.lab.device_source import open_site
    from harness.store.records import SweepStatus
    from harness.store.store import Store
    from harness.sweep.runner import SweepRunner

    watcher = watch(quiet=quiet, plain=plain)
    place = results or default_results()
    if spec.require_full_delegation and fail_on == "failed":
        fail_on = "fell-back"
    with open_site(lab, place, spec, watcher) as site:
        targets = site.targets(spec.devices)
        with Store.open(place) as store:
            with watcher:
                if targets.notice:
                    watcher.note(targets.notice)
                outcome = SweepRunner(store, watcher, site=site).run(
                    spec, targets.names, resume=resume, takes_new=targets.takes_new
                )  # fmt: skip
            interrupted = outcome.status is SweepStatus.INTERRUPTED
            exit_code = print_sweep(
                store, outcome.sweep_id, fail_on=fail_on, as_json=as_json, interrupted=interrupted, quiet=quiet
            )  # fmt: skip
    for host in outcome.unreached:
        watcher.warn(f"No adb server answered at {host}: what is attached there was not measured.")
        exit_code = max(exit_code, ExitCode.CELL_FAILED)
    raise typer.Exit(exit_code)
