"""Keep every finished invocation before the next one starts, and read sweeps back.

Writers may be called from several threads; each call is one transaction. Readers return pandas tables.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    Select,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from harness.accuracy.outcome import AccuracyOutcome
from harness.benchmark.measurement import Invocation, Pass
from harness.benchmark.tool import Tool
from harness.compression.variant import VariantCard
from harness.devices.base import DeviceFacts
from harness.errors import Failure, FailureClass, HarnessError, NothingToRunOnError, UsageError
from harness.results import schema
from harness.results.database import WRITES, explained, open_engine
from harness.results.logs import log_path, write_log
from harness.results.records import CARRIED_ON, FILE_NAME, SET_ASIDE, Cell, SweepRecord, SweepStatus, record_of
from harness.results.rows import (
    accuracy_values,
    failure_values,
    measurement_values,
    only_columns,
    utc_text,
)
from harness.results.sweep_lock import SweepLocks

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
"""Names every sweep of a store."""

_LATEST = re.compile(r"latest(~(?P<back>\d{1,6}))?")

SAYS_NOTHING_OF_THE_CELL = frozenset(
    {
        FailureClass.DEVICE_OFFLINE,
        FailureClass.DEVICE_UNAUTHORIZED,
        FailureClass.DEVICE_LOST,
        FailureClass.STORAGE_FULL,
        FailureClass.PUSH_CORRUPT,
        FailureClass.THROTTLED,
        FailureClass.INTERRUPTED,
    }
)
"""Failures from outside: such an invocation is kept but is not done, so that --resume tries it again."""


class Store:
    """Results of many sweeps: one database, and one folder of raw logs for each sweep."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        """Where the raw logs lie."""
        self._url = url
        self._engine = open_engine(url)
        self._writing = threading.Lock()
        self.locks = SweepLocks(folder)
        """Held for each sweep that this store has started or resumed, until it is finished or the store is closed."""

    @classmethod
    def open(cls, place: str | Path, *, folder: Path | None = None, must_exist: bool = False) -> Store:
        """Open a results folder (made where it is missing), a `.sqlite3` file, or a SQLAlchemy URL.

        `folder` holds the raw logs; it is the file's own folder, and needed only with a URL. Raises `UsageError` for
        what is no results store, and `NothingToRunOnError` where `must_exist` and nothing was ever stored there.
        """
        if "://" in str(place):
            return cls(str(place), folder or Path("results"))
        file = Path(place) if Path(place).suffix == ".sqlite3" else Path(place) / FILE_NAME
        if must_exist and not file.is_file():
            raise NothingToRunOnError(
                f"There are no results in {file.parent}.", "Run `harness sweep` first, or name the folder: --results."
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The results folder {file.parent} cannot be made: {error.strerror}.", "Choose another with --results."
            ) from error
        return cls(str(URL.create("sqlite", database=str(file))), folder or file.parent)

    def close(self) -> None:
        """Close all connections, and let go of sweeps that were not finished."""
        self.locks.release_all()
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writers ----

    def start_sweep(self, record: SweepRecord) -> None:
        """Store a new sweep."""
        row = asdict(record) | {"started_at_utc": utc_text(record.started_at), "finished_at_utc": None}
        self.locks.acquire(record.id)
        with self._transaction() as connection:
            connection.execute(insert(schema.sweeps).values(only_columns(schema.sweeps, row)))

    def resume_sweep(self, sweep_id: str) -> None:
        """Mark a sweep as running again. Raises `UsageError` where another process runs or removes it."""
        self.locks.acquire(sweep_id)
        self._set_status(sweep_id, SweepStatus.RUNNING, None)

    def note_sitting(self, sweep_id: str, spec: Mapping[str, object], sitting: Mapping[str, object]) -> None:
        """Store with which spec a sweep is carried on from now, and what `SweepRecord.carried_on` tells of it."""

        def noted(host: dict[str, Any]) -> dict[str, Any]:
            return {**host, CARRIED_ON: [*(host.get(CARRIED_ON) or ()), dict(sitting)]}

        self._change_host(sweep_id, noted, spec=dict(spec), preset=spec["preset"], seed=spec["seed"])

    def set_aside(self, sweep_id: str, reasons: Mapping[str, str], *, planned: Collection[str] = ()) -> None:
        """Store which cells were measured anew under other conditions and why, by key; `planned` ones are taken back.

        Their rows stay as they are.
        """

        def changed(host: dict[str, Any]) -> dict[str, Any]:
            kept = {key: reason for key, reason in (host.get(SET_ASIDE) or {}).items() if key not in planned}
            return {**host, SET_ASIDE: {**kept, **reasons}}

        self._change_host(sweep_id, changed)

    def _change_host(
        self, sweep_id: str, change: Callable[[dict[str, Any]], dict[str, Any]], **columns: object
    ) -> None:
        """Read the facts of a sweep, change them, and write them back in one transaction."""
        table = schema.sweeps
        with self._transaction() as connection:
            here = table.c.id == sweep_id
            host = connection.scalar(select(table.c.host).where(here).with_for_update())
            connection.execute(update(table).where(here).values(host=change(dict(host or {})), **columns))

    def finish_sweep(self, sweep_id: str, status: SweepStatus, finished_at: datetime | None = None) -> None:
        """Say how a sweep ended; `finished_at` defaults to now."""
        self._set_status(sweep_id, status, utc_text(finished_at or datetime.now(UTC)))
        self.locks.release(sweep_id)

    def remove_sweep(self, sweep_id: str) -> None:
        """Remove all rows of a sweep, in one transaction; its raw logs stay."""
        with self._transaction() as connection:
            for table in reversed(schema.metadata.sorted_tables):  # what refers to a row goes before it
                if table is schema.sweeps:
                    connection.execute(delete(table).where(table.c.id == sweep_id))
                elif "sweep_id" in table.c:
                    connection.execute(delete(table).where(table.c.sweep_id == sweep_id))

    def _set_status(self, sweep_id: str, status: SweepStatus, finished_at_utc: str | None) -> None:
        change = update(schema.sweeps).where(schema.sweeps.c.id == sweep_id)
        with self._transaction() as connection:
            connection.execute(change.values(status=status, finished_at_utc=finished_at_utc))

    def add_device(self, sweep_id: str, facts: DeviceFacts, profile: str, labels: Sequence[str] = ()) -> None:
        """Store a device, or what is now known of it; a failure stored before is taken back."""
        self._replace(
            schema.devices,
            {"sweep_id": sweep_id, "serial": facts.serial},
            {
                "title": facts.title,
                "kind": facts.kind,
                "profile": profile,
                "labels": list(dict.fromkeys(labels)),
                "facts": asdict(facts),
            },
        )

    def add_device_failure(
        self, sweep_id: str, serial: str, failure: Failure, facts: DeviceFacts | None = None
    ) -> None:
        """Store that a whole device could not be measured, or was lost; facts stored before are kept."""
        with self._transaction() as connection:
            here = (schema.devices.c.sweep_id == sweep_id) & (schema.devices.c.serial == serial)
            known = connection.execute(select(schema.devices).where(here)).mappings().first()
            row: dict[str, Any] = dict(known) if known else {"title": serial, "labels": []}
            if facts:
                row |= {"title": facts.title, "kind": facts.kind, "facts": asdict(facts)}
            connection.execute(delete(schema.devices).where(here))
            row |= {"sweep_id": sweep_id, "serial": serial, **failure_values(failure)}
            connection.execute(insert(schema.devices).values(row))

    def set_preparation(self, sweep_id: str, serial: str, preparation: Mapping[str, object]) -> None:
        """Store how a device was prepared and given back, over what was stored of it before."""
        table = schema.devices
        with self._transaction() as connection:
            here = (table.c.sweep_id == sweep_id) & (table.c.serial == serial)
            connection.execute(update(table).where(here).values(preparation=dict(preparation)))

    def add_variant(self, sweep_id: str, card: VariantCard) -> None:
        """Store a variant under its recipe's name; another one of that name that was measured is given its own."""
        self._keep_measured_variant(sweep_id, card.recipe, card.sha256)
        values = {"sha256": card.sha256, "size_bytes": card.size_bytes, "gzip_size_bytes": card.gzip_size_bytes}
        self._replace(
            schema.variants,
            {"sweep_id": sweep_id, "name": card.recipe},
            values | {"card": card.model_dump(mode="json")},
        )

    def _keep_measured_variant(self, sweep_id: str, name: str, new_sha256: str | None) -> None:
        table, cells = schema.variants, schema.cells
        with self._transaction() as connection:
            here = (table.c.sweep_id == sweep_id) & (table.c.name == name)
            sha256 = connection.scalar(select(table.c.sha256).where(here))
            of_it = (cells.c.sweep_id == sweep_id) & (cells.c.variant_sha256 == sha256)
            if sha256 not in (None, new_sha256) and connection.scalar(select(cells.c.key).where(of_it).limit(1)):
                connection.execute(update(table).where(here).values(name=f"{name} ({sha256[:12]})"))

    def add_variant_failure(self, sweep_id: str, name: str, failure: Failure) -> None:
        """Store that a recipe gave no variant; one of that name that was measured is given its own."""
        self._keep_measured_variant(sweep_id, name, None)
        self._replace(schema.variants, {"sweep_id": sweep_id, "name": name}, failure_values(failure))

    def add_tool(self, sweep_id: str, tool: Tool) -> None:
        """Store which binary measured."""
        self._replace(
            schema.tools,
            {"sweep_id": sweep_id, "sha256": tool.sha256},
            {"name": tool.name, "family": tool.family, "facts": tool.model_dump(mode="json")},
        )

    def add_cell(self, sweep_id: str, cell: Cell) -> None:
        """Store a cell; one that is there already stays as it is."""
        with self._transaction() as connection:
            if _find_cell(connection, sweep_id, cell.key) is None:
                row = asdict(cell) | {"sweep_id": sweep_id, "key": cell.key}
                connection.execute(insert(schema.cells).values(row))

    def add_invocation(
        self,
        sweep_id: str,
        cell_key: str,
        *,
        purpose: Pass,
        index: int,
        block: int,
        invocation: Invocation,
        started_at: datetime,
        telemetry_before: Mapping[str, object] | None = None,
        telemetry_during: Mapping[str, object] | None = None,
        telemetry_after: Mapping[str, object] | None = None,
        gate: Mapping[str, object] | None = None,
        labels: Sequence[str] = (),
        warmup_asked_runs: int | None = None,
        warmup_converged: bool | None = None,
    ) -> None:
        """Store one finished process and its log. When this returns, both are on disk.

        The same `index` may come again, after a lost phone or a throttled run: each attempt is kept, the last counts.
        Raises `HarnessError` for an unknown cell or a full disk.
        """
        table = schema.invocations
        with self._transaction() as connection:
            cell = _cell(connection, sweep_id, cell_key)
            mine = (table.c.sweep_id == sweep_id) & (table.c.cell_key == cell_key) & (table.c.purpose == purpose)
            latest = select(func.max(table.c.attempt)).where(mine & (table.c.invocation_index == index))
            attempt = (connection.scalar(latest) or 0) + 1
            row = {
                "sweep_id": sweep_id,
                "cell_key": cell_key,
                "purpose": purpose,
                "invocation_index": index,
                "attempt": attempt,
                "block": block,
                "started_at_utc": utc_text(started_at),
                "wall_s": invocation.wall_s,
                "command": list(invocation.command),
                "log_path": self._keep_log(log_path(sweep_id, cell, purpose, index, attempt), invocation.log),
                "labels": list(labels),
                "telemetry_before": None if telemetry_before is None else dict(telemetry_before),
                "telemetry_during": None if telemetry_during is None else dict(telemetry_during),
                "telemetry_after": None if telemetry_after is None else dict(telemetry_after),
                "gate": None if gate is None else dict(gate),
                "cores_allowed": invocation.cores_allowed,
                "warmup_asked_runs": warmup_asked_runs,
                "warmup_converged": warmup_converged,
                **measurement_values(invocation.measurement),
                **failure_values(invocation.failure),
            }
            connection.execute(insert(table).values(row))

    def add_accuracy(self, sweep_id: str, cell_key: str, outcome: AccuracyOutcome) -> None:
        """Store the accuracy pass of one cell and its logs. Given again, each attempt is kept, the last counts."""
        table = schema.accuracies
        with self._transaction() as connection:
            cell = _cell(connection, sweep_id, cell_key)
            latest = select(func.max(table.c.attempt)).where(
                (table.c.sweep_id == sweep_id) & (table.c.cell_key == cell_key)
            )
            attempt = (connection.scalar(latest) or 0) + 1
            row = {
                "sweep_id": sweep_id,
                "cell_key": cell_key,
                "attempt": attempt,
                "wall_s": outcome.wall_s,
                "log_path": self._keep_log(log_path(sweep_id, cell, "accuracy", 0, attempt), outcome.log),
                "samples_per_process": outcome.samples_per_process,
                "note": outcome.note,
                **accuracy_values(outcome),
                **failure_values(outcome.failure),
            }
            connection.execute(insert(table).values(row))

    def _keep_log(self, path: Path, text: str) -> str:
        """Write a log and return its path inside the results folder. It is on disk before the row that names it."""
        write_log(self.folder / path, text)
        return path.as_posix()

    def _replace(self, table: Table, identity: dict[str, Any], values: dict[str, Any]) -> None:
        here = [table.c[name] == value for name, value in identity.items()]
        with self._transaction() as connection:
            connection.execute(delete(table).where(*here))
            connection.execute(insert(table).values(identity | values))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One write at a time in this process; between processes the database's own lock decides."""
        writer = self._engine.execution_options(**{WRITES: True})
        with self._writing, explained(self._url), writer.begin() as connection:
            yield connection

    # ---- what is done, for --resume ----

    def done(self, sweep_id: str) -> set[tuple[str, Pass, int]]:
        """Return (cell key, pass, index) of every invocation that need not be repeated.

        The last attempt counts: a failure of the cell itself is done, one from outside (`SAYS_NOTHING_OF_THE_CELL`) is
        not.
        """
        table = schema.invocations
        columns = (table.c.cell_key, table.c.purpose, table.c.invocation_index, table.c.failure_class)
        with self._reading() as connection:
            rows = connection.execute(select(*columns).where(table.c.sweep_id == sweep_id).order_by(table.c.id)).all()
        last = {(key, Pass(purpose), index): failed for key, purpose, index, failed in rows}
        return {place for place, failed in last.items() if is_final(failed)}

    def done_accuracies(self, sweep_id: str) -> set[str]:
        """Return the keys of the cells whose accuracy pass need not be repeated."""
        table = schema.accuracies
        with self._reading() as connection:
            query = select(table.c.cell_key, table.c.failure_class).where(table.c.sweep_id == sweep_id)
            rows = connection.execute(query.order_by(table.c.id)).all()
        return {key for key, failed in {row.cell_key: row.failure_class for row in rows}.items() if is_final(failed)}

    # ---- readers ----

    def sweeps(self) -> list[SweepRecord]:
        """Return all sweeps, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(select(schema.sweeps).order_by(schema.sweeps.c.id.desc())).mappings().all()
        return [record_of(dict(row)) for row in rows]

    def find_sweep(self, name: str) -> SweepRecord:
        """Return the sweep that `latest`, `latest~1` (the one before), an id or its beginning names.

        A/A sweeps are never `latest`: nobody who asks for the last sweep means one. Raises `UsageError`.
        """
        known = self.sweeps()
        if not known:
            raise NothingToRunOnError(f"There are no sweeps in {self.folder}.", "Run `harness sweep` first.")
        if latest := _LATEST.fullmatch(name):
            return self._latest(name, [sweep for sweep in known if not sweep.is_noise], int(latest["back"] or 0))
        exact = [sweep for sweep in known if sweep.id == name]
        found = exact or [sweep for sweep in known if name and sweep.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(sweep.id for sweep in (found or known)[:5])
        problem = f"fits {len(found)} sweeps" if found else "fits no sweep"
        raise UsageError(f"{name!r} {problem} in {self.folder}: {choices}.", "Give `latest` or more of the id.")

    def _latest(self, name: str, known: Sequence[SweepRecord], back: int) -> SweepRecord:
        if back >= len(known):
            held = f"{len(known)} sweep" + ("" if len(known) == 1 else "s")
            raise UsageError(
                f"{name} does not exist: {self.folder} holds {held}, A/A sweeps left out.",
                "See `harness results list`.",
            )
        return known[back]

    def sweep_ids(self, names: Sequence[str]) -> list[str]:
        """Return the ids of sweeps by names as `find_sweep` takes them, each once; `all` are all, oldest first."""
        if ALL in names:
            return sorted(sweep.id for sweep in self.sweeps())
        return list(dict.fromkeys(self.find_sweep(name).id for name in names))

    def count_invocations(self) -> dict[str, int]:
        """Return the number of stored processes of each sweep that has any."""
        column = schema.invocations.c.sweep_id
        with self._reading() as connection:
            rows = connection.execute(select(column, func.count()).group_by(column)).all()
        return {row[0]: row[1] for row in rows}

    def devices(self, sweep_id: str) -> pd.DataFrame:
        """One row a device of the sweep."""
        return self._table(schema.devices, sweep_id, "serial")

    def variants(self, sweep_id: str) -> pd.DataFrame:
        """One row a recipe of the sweep, also where it gave no variant."""
        return self._table(schema.variants, sweep_id, "name")

    def tools(self, sweep_id: str) -> pd.DataFrame:
        """One row a binary that measured."""
        return self._table(schema.tools, sweep_id, "name")

    def cells(self, sweep_id: str) -> pd.DataFrame:
        """One row a cell."""
        return self._table(schema.cells, sweep_id, "key")

    def invocations(self, sweep_id: str) -> pd.DataFrame:
        """One row a finished process, every attempt, in the order of time."""
        return self._table(schema.invocations, sweep_id, "id")

    def accuracies(self, sweep_id: str) -> pd.DataFrame:
        """One row an accuracy pass, every attempt, in the order of time."""
        return self._table(schema.accuracies, sweep_id, "id")

    def rows(self, table: Table, sweep_ids: Collection[str], *, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """Return the rows of several sweeps as plain values, without columns that take long to read.

        They come in the order of the table's primary key, as in the tables above, at a tenth of the cost.
        """
        columns = [column for column in table.columns if column.name not in without]
        query = select(*columns).where(table.c.sweep_id.in_(sweep_ids)).order_by(*table.primary_key.columns)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        names = [column.name for column in columns]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def read(self, query: Select[Any]) -> list[dict[str, Any]]:
        """Return the rows of any query over the tables of `schema`, for what spans sweeps."""
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _table(self, table: Table, sweep_id: str, order: str) -> pd.DataFrame:
        import pandas as pd

        query = select(table).where(table.c.sweep_id == sweep_id).order_by(table.c[order])
        with self._reading() as connection:
            rows = connection.execute(query).all()
        frame = pd.DataFrame(rows, columns=[column.name for column in table.columns])
        return frame.astype({column.name: _pandas_type(column) for column in table.columns})

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self._url), self._engine.connect() as connection:
            yield connection


def is_final(failure_class: str | None) -> bool:
    """Tell whether an invocation with this failure (or none) settles its place in the plan."""
    return failure_class is None or failure_class not in SAYS_NOTHING_OF_THE_CELL


def _pandas_type(column: Column[Any]) -> str:
    """Return a type that keeps whole numbers and truth values as they are where some are missing."""
    kinds = {Integer: "Int64", Boolean: "boolean", Float: "float64"}
    return next((name for kind, name in kinds.items() if isinstance(column.type, kind)), "object")


def _find_cell(connection: Connection, sweep_id: str, key: str) -> Cell | None:
    table = schema.cells
    found = connection.execute(select(table).where((table.c.sweep_id == sweep_id) & (table.c.key == key))).mappings()
    row = found.first()
    return None if row is None else Cell(**{name: row[name] for name in Cell.__dataclass_fields__})


def _cell(connection: Connection, sweep_id: str, key: str) -> Cell:
    cell = _find_cell(connection, sweep_id, key)
    if cell is None:
        raise HarnessError(f"Cell {key} of sweep {sweep_id} was never stored.", "This is a fault of harness.")
    return cell
