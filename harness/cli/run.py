"""Print a sweep's table and end with its exit code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import typer

from harness.cli.output import console, error_console, print_json
from harness.errors import ExitCode, FailureClass
from harness.paths import default_results

if TYPE_CHECKING:
    from harness.analysis.result_row import ResultRow
    from harness.analysis.shipping.choice import ShipLimits
    from harness.api import SweepResult
    from harness.cli.progress import QuietWatcher
    from harness.store.store import Store


def end_with(
    found: SweepResult,
    watcher: QuietWatcher,
    *,
    limits: ShipLimits,
    fail_on: str = "failed",
    as_json: bool = False,
    quiet: bool = False,
) -> NoReturn:
    """Print a sweep's table and what to ship within the limits, and end the command with its exit code."""
    from harness.store.location import title_of
    from harness.store.store import Store

    with Store.open(found.results, must_exist=True) as store:
        exit_code = print_sweep(
            store,
            found.sweep_id,
            limits=limits,
            fail_on=fail_on,
            as_json=as_json,
            interrupted=found.interrupted,
            quiet=quiet,
        )
    for host in found.unreached:
        watcher.warn(f"No adb server answered at {host}: the phones attached there were not measured.")
        exit_code = max(exit_code, ExitCode.CELL_FAILED)
    if found.interrupted:
        where = "" if found.results == default_results() else f" --results {shlex.quote(title_of(found.results))}"
        watcher.warn(f"Interrupted. Resume it: harness sweep --resume {found.sweep_id}{where}")
    raise typer.Exit(exit_code)


def print_sweep(
    store: Store,
    sweep_id: str,
    *,
    limits: ShipLimits | None = None,
    fail_on: str = "failed",
    as_json: bool = False,
    interrupted: bool = False,
    quiet: bool = False,
) -> ExitCode:
    """Print a sweep's summary and decisions, and return the exit code that it deserves.

    `limits` are those of a sweep that just ended; a stored one is judged by the default limits.
    """
    from harness.analysis.decision import decide
    from harness.analysis.shipping.choice import ShipLimits
    from harness.analysis.sweep_data import read_sweep_data

    record = store.find_sweep(sweep_id)
    data = read_sweep_data(store, record, telemetry=False)
    summary, decisions = data.rows, decide(data, limits or ShipLimits())
    if as_json:
        decided = {"decisions": [decision.as_json() for decision in decisions]} if limits else {}
        print_json({"sweep": record.as_json(), "rows": [row.as_json() for row in summary], **decided})
    else:
        from harness.report.terminal.sweep_table import details_of, sweep_table

        details = details_of(limits) if limits else details_of(ShipLimits(), sweep_id)
        console().print(sweep_table(summary, decisions, details))
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
