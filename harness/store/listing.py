"""Which sweeps there are, read without SQLAlchemy: loading that alone takes longer than a list may take."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from harness.errors import MissingPrerequisiteError
from harness.store.location import is_url
from harness.store.records import FILE_NAME, SweepRecord, record_of

_COLUMNS = ("id", "started_at_utc", "finished_at_utc", "status", "preset", "seed", "harness_version", "spec", "host")
VERSION = "0006"
"""Of the stores that are read here, as Alembic writes it."""


def list_sweeps(place: str | Path) -> list[SweepRecord]:
    """Return all sweeps of a results folder or a database, the newest first; none if nothing was ever stored.

    Whatever is out of the ordinary (a server, an older or newer store, a damaged file) is left to `Store`: raises what
    it raises.
    """
    if not is_url(place):
        file = Path(place) / FILE_NAME
        if not file.is_file():
            return []
        with suppress(sqlite3.Error):
            return _read(file)
    from harness.store.store import Store

    try:
        with Store.open(place, must_exist=True) as store:
            return store.sweeps()
    except MissingPrerequisiteError:
        return []


def _read(file: Path) -> list[SweepRecord]:
    """Read the table. Raises `sqlite3.Error`, also for a store of another version."""
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        if version != VERSION:
            raise sqlite3.NotSupportedError(f"schema version {version}")
        rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM sweeps ORDER BY id DESC")  # noqa: S608 - names
        return [_record(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def _record(row: dict[str, str]) -> SweepRecord:
    return record_of(row | {name: json.loads(row[name]) for name in ("spec", "host")})
