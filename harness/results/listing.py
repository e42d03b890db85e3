"""Which sweeps there are, read without SQLAlchemy: loading that alone takes longer than a list may take."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from harness.results.records import FILE_NAME, SweepRecord, record_of

_COLUMNS = ("id", "started_at_utc", "finished_at_utc", "status", "preset", "seed", "harness_version", "spec", "host")
NEWEST_VERSION = 4
"""Newest version of the store that is read here; the table has been the same in all of them."""


def list_sweeps(folder: Path) -> list[SweepRecord]:
    """Return all sweeps of a results folder, the newest first; none where nothing was ever stored.

    Whatever is out of the ordinary (a newer store, a damaged file) is left to `Store`, which explains it: raises what
    it raises.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        return []
    try:
        return _read(file)
    except sqlite3.Error:
        from harness.results.store import Store

        with Store.open(folder) as store:
            return store.sweeps()


def _read(file: Path) -> list[SweepRecord]:
    """Read the table. Raises `sqlite3.Error`, also for a store of another version."""
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        (version,) = connection.execute("SELECT version FROM schema_versions").fetchone() or (None,)
        if version is None or version > NEWEST_VERSION:
            raise sqlite3.NotSupportedError(f"schema version {version}")
        rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM sweeps ORDER BY id DESC")  # noqa: S608 - names
        return [_record(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def _record(row: dict[str, str]) -> SweepRecord:
    return record_of(row | {name: json.loads(row[name]) for name in ("spec", "host")})
