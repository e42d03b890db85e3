"""Run a sweep from the command line: choose devices, draw progress, print the table, end with the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from harness.cli.output import console, error_console, print_json
from harness.errors import ExitCode, FailureClass
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.analysis.result_row import ResultRow
    from harness.spec.sweep import SweepSpec
    from harness.store.store import Store


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
    from harness.lab.device_source import open_source
    from harness.store.records import SweepStatus
    from harness.store.store import Store
    from harness.sweep.runner import SweepRunner

    watcher = watch(quiet=quiet, plain=plain)
    place = results or default_results()
    if spec.require_full_delegation and fail_on == "failed":
        fail_on = "fell-back"
    with open_source(lab, place, spec, watcher) as site:
        targets = site.targets(spec.devices)
        with Store.open(place) as store:
            with watcher:
                if targets.notice:
                    watcher.note(targets.notice)
                outcome = SweepRunner(store, watcher, site=site).run(
                    spec, targets.names, resume=resume, takes_new=targets.takes_new
                )
            interrupted = outcome.status is SweepStatus.INTERRUPTED
            exit_code = print_sweep(
                store, outcome.sweep_id, fail_on=fail_on, as_json=as_json, interrupted=interrupted, quiet=quiet
            )
    for host in outcome.unreached:
        watcher.warn(f"No adb server answered at {host}: what is attached there was not measured.")
        exit_code = max(exit_code, ExitCode.CELL_FAILED)
    raise typer.Exit(exit_code)


def print_sweep(
    store: Store,
    sweep_id: str,
    *,
    fail_on: str = "failed",
    as_json: bool = False,
    interrupted: bool = False,
    quiet: bool = False,
) -> ExitCode:
    """Print a sweep's summary and return the exit code that it deserves."""
    from harness.analysis.summary import summarize

    summary = summarize(store, sweep_id)
    record = store.find_sweep(sweep_id)
    if as_json:
        print_json({"sweep": record.as_json(), "rows": [row.as_json() for row in summary]})
    else:
        from harness.report.terminal.sweep_table import sweep_table

        console().print(sweep_table(summary))
    if not as_json and not quiet:
        error_console().print(
            f"Sweep {record.id}, preset {record.preset}, harness {record.harness_version}; "
            f"kept in {store.title}: harness results show {record.id}",
            markup=False,
            soft_wrap=True,
        )
    return ExitCode.INTERRUPTED if interrupted else exit_code_of(summary, fail_on)


def exit_code_of(summary: Sequence[ResultRow], fail_on: str) -> ExitCode:
    """Return the exit code: 3 when every device failed as a whole, 1 when what `fail_on` names happened, else 0."""
    tried = any(row.invocations_ok or row.invocations_failed for row in summary)
    classes = [row.failure_class for row in summary if row.failure_class is not None]
    if not tried and any(row.variant is None and row.failure_class is not None for row in summary):
        return ExitCode.NOTHING_TO_RUN_ON
    failed = [name for name in classes if name != FailureClass.FELL_BACK]
    counted = {"failed": failed, "fell-back": classes, "none": []}
    return ExitCode.CELL_FAILED if counted[fail_on] else ExitCode.OK
