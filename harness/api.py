"""The public Python interface: stored results as pandas tables. It changes only with a new major version.

Importing it is instant; pandas and the database are loaded by the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd


def load_results(
    folder: str | Path | None = None,
    sweep: str | Iterable[str] = "latest",
    rows: Literal["summary", "invocations"] = "summary",
) -> pd.DataFrame:
    """Return stored results as a tidy table: one row a cell (`summary`) or one row a process (`invocations`).

    `folder` is a results folder, a `.sqlite3` file or a SQLAlchemy URL; by default `$HARNESS_RESULTS` or `results`.
    `sweep` is an id, the beginning of one, `latest`, `latest~1`, several of these, or `all`. Columns, types and units
    are those of `harness.analysis.result_row` (docs/exports.md). The unit ends the name of a column, such as `_us`.
    Raises `harness.errors.UsageError` for what does not exist, `harness.errors.NothingToRunOnError` for no results.
    """
    from harness.export.tables import read_table
    from harness.paths import default_results
    from harness.store.store import Store

    with Store.open(folder or default_results(), must_exist=True) as store:
        names = [sweep] if isinstance(sweep, str) else list(sweep)
        return read_table(store, store.sweep_ids(names), rows)


def read_export(path: str | Path) -> pd.DataFrame:
    """Return the table in a CSV, JSON or Parquet file that `harness results export` wrote, types included.

    Raises `harness.errors.UsageError` for any other file.
    """
    from harness.export.files import read_export as read

    return read(Path(path))


def write_export(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table, or some of its columns and rows, as `.csv`, `.json`, `.parquet`, `.md` or `.tex`.

    The first three are what `read_export` reads. Raises `harness.errors.UsageError` for another ending, or where the
    file cannot be written.
    """
    from harness.export.files import write_export as write

    write(table, Path(path))
