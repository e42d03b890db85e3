"""Print a stored sweep, as `harness sweep` ends and `harness results show` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.output import console, error_console, print_json
from harness.errors import ExitCode, FailureClass

if TYPE_CHECKING:
    import pandas as pd

    from harness.store.store import Store


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
    from harness.export.text_formats import to_rows

    summary = summarize(store, sweep_id)
    record = store.find_sweep(sweep_id)
    if as_json:
        print_json({"sweep": record.as_json(), "rows": to_rows(summary)})
    else:
        from harness.report.terminal.sweep_table import sweep_table

        console().print(sweep_table(summary))
    if not as_json and not quiet:
        error_console().print(
            f"Sweep {record.id}, preset {record.preset}, harness {record.harness_version}; "
            f"kept in {store.title}: harness results show {record.id}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    return ExitCode.INTERRUPTED if interrupted else exit_code_of(summary, fail_on)


def exit_code_of(summary: pd.DataFrame, fail_on: str) -> ExitCode:
    """Return the exit code: 3 when every device failed as a whole, 1 when what `fail_on` names happened, else 0."""
    measured = summary["invocations_ok"].fillna(0) > 0
    classes = summary["failure_class"].dropna()
    whole_devices = summary["variant"].isna() & summary["failure_class"].notna()
    if not measured.any() and whole_devices.any() and not (summary["invocations_failed"].fillna(0) > 0).any():
        return ExitCode.NOTHING_TO_RUN_ON
    counted = {"failed": classes[classes != FailureClass.FELL_BACK.value], "fell-back": classes, "none": classes[:0]}
    return ExitCode.CELL_FAILED if len(counted[fail_on]) else ExitCode.OK
