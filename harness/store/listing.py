"""Which sweeps there are and how each ended, read without SQLAlchemy: loading that alone takes longer than a list may.

The same SQL runs on both databases.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import NOT_CAUSED_BY_THE_CELL, MissingPrerequisiteError
from harness.store.location import is_url
from harness.store.records import FILE_NAME, SweepRecord, SweepStatus, record_of

_COLUMNS = ("id", "started_at_utc", "finished_at_utc", "status", "preset", "seed", "harness_version", "spec", "host")
VERSION = "0006"
"""Of the stores that are read here, as Alembic writes it."""

_SWEEPS = f"SELECT {', '.join(_COLUMNS)} FROM sweeps ORDER BY id DESC"  # noqa: S608 - names
_DEVICES = "SELECT sweep_id, serial, title, failure_class FROM devices ORDER BY sweep_id, serial"
_CELLS = "SELECT sweep_id, serial, COUNT(*) FROM cells GROUP BY sweep_id, serial"
_FAILED_VARIANTS = "SELECT sweep_id, COUNT(*) FROM variants WHERE failure_class IS NOT NULL GROUP BY sweep_id"
_RAN = "SELECT DISTINCT sweep_id FROM invocations UNION SELECT DISTINCT sweep_id FROM accuracies"
_FAILED_CELLS = f"""
SELECT sweep_id, cell_key FROM invocations AS row WHERE failure_class IS NOT NULL AND (
    purpose = 'latency' AND failure_class NOT IN ({", ".join(f"'{one}'" for one in sorted(NOT_CAUSED_BY_THE_CELL))})
    OR purpose IN ('latency', 'memory', 'sustained') AND attempt = (
        SELECT MAX(attempt) FROM invocations AS other WHERE other.sweep_id = row.sweep_id AND
        other.cell_key = row.cell_key AND other.purpose = row.purpose AND
        other.invocation_index = row.invocation_index))
UNION
SELECT sweep_id, cell_key FROM accuracies AS row
WHERE (failure_class IS NOT NULL OR check_passed IS FALSE) AND attempt = (
    SELECT MAX(attempt) FROM accuracies AS other WHERE other.sweep_id = row.sweep_id AND other.cell_key = row.cell_key)
"""  # noqa: S608 - names of failure classes
"""Cells whose row in the table of the sweep shows a failure."""

_Read = Callable[[str], Iterable[Sequence[Any]]]


class SweepState(StrEnum):
    """How a sweep stands, as far as the store and the locks show."""

    RUNNING = "running"
    KILLED = "killed"
    """Its process ended without a word; it can be resumed."""
    INTERRUPTED = "interrupted"
    NOTHING_MEASURED = "nothing measured"
    ALL_FAILED = "all failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class ListedSweep:
    """One line of the list."""

    record: SweepRecord
    state: SweepState
    devices: tuple[str, ...]
    """Titles."""
    rows: int
    """Rows of the sweep's table: its cells, and devices and recipes that failed as a whole."""
    failed: int
    """Rows with a failure other than a fall-back."""

    def as_json(self) -> dict[str, object]:
        """Return the record as JSON values, and what became of it."""
        found = {"state": self.state, "devices": list(self.devices), "rows": self.rows, "failed": self.failed}
        return self.record.as_json() | found


def list_sweeps(place: str | Path) -> list[ListedSweep]:
    """Return all sweeps of a results folder or a database, the newest first; none if nothing was ever stored.

    Whatever is out of the ordinary (a server, an older or newer store, a damaged file) is left to `Store`: raises what
    it raises.
    """
    if not is_url(place):
        file = Path(place) / FILE_NAME
        if not file.is_file():
            return []
        with suppress(sqlite3.Error):
            return _read_file(file)
    from harness.store.locks import may_run
    from harness.store.store import Store

    try:
        with Store.open(place, must_exist=True) as store:
            return _listed(
                store.sweeps(),
                store.read_sql,
                lambda record: may_run(store.locks, record),
            )
    except MissingPrerequisiteError:
        return []


def _read_file(file: Path) -> list[ListedSweep]:
    """Read the tables. Raises `sqlite3.Error`, also for a store of another version."""
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        if version != VERSION:
            raise sqlite3.NotSupportedError(f"schema version {version}")
        records = [_record(dict(zip(_COLUMNS, row, strict=True))) for row in connection.execute(_SWEEPS)]
        return _listed(records, connection.execute, lambda record: _may_run(file.parent, record))


def _record(row: dict[str, str]) -> SweepRecord:
    return record_of(row | {name: json.loads(row[name]) for name in ("spec", "host")})


def _may_run(folder: Path, record: SweepRecord) -> bool:
    from harness.store.locks import FileSweepLocks, may_run

    return may_run(FileSweepLocks(folder), record)


def _listed(records: Sequence[SweepRecord], read: _Read, may_run: Callable[[SweepRecord], bool]) -> list[ListedSweep]:
    devices: dict[str, list[tuple[str, str, str | None]]] = defaultdict(list)
    for sweep_id, serial, title, failure_class in read(_DEVICES):
        devices[sweep_id].append((serial, title, failure_class))
    cells = {(sweep_id, serial): count for sweep_id, serial, count in read(_CELLS)}
    variants = {row[0]: row[1] for row in read(_FAILED_VARIANTS)}
    failed_cells = Counter(sweep_id for sweep_id, _ in read(_FAILED_CELLS))
    ran = {row[0] for row in read(_RAN)}
    listed = []
    for record in records:
        found = devices[record.id]
        lost = sum(bool(failed) and (record.id, serial) not in cells for serial, _, failed in found)
        as_a_whole = variants.get(record.id, 0) + lost
        rows = as_a_whole + sum(count for (sweep_id, _), count in cells.items() if sweep_id == record.id)
        failed = as_a_whole + failed_cells[record.id]
        runs = record.status is SweepStatus.RUNNING and may_run(record)
        state = _state(record, runs=runs, ran=record.id in ran, all_failed=failed >= rows)
        listed.append(ListedSweep(record, state, tuple(title for _, title, _ in found), rows, failed))
    return listed


def _state(record: SweepRecord, *, runs: bool, ran: bool, all_failed: bool) -> SweepState:
    if record.status is SweepStatus.RUNNING:
        return SweepState.RUNNING if runs else SweepState.KILLED
    if record.status is SweepStatus.INTERRUPTED:
        return SweepState.INTERRUPTED
    if not ran:
        return SweepState.NOTHING_MEASURED
    return SweepState.ALL_FAILED if all_failed else SweepState.FINISHED
