"""Read sweeps back as typed rows: everything that compare, report, history and explain ask a store."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Table, func, select, text

from harness.benchmark.invocation import Pass
from harness.errors import MissingPrerequisiteError, UsageError
from harness.store import schema
from harness.store.backend import AnyRow, Backend
from harness.store.errors import explained
from harness.store.location import StoreLocation, find_location
from harness.store.postgresql import open_server, server_engine
from harness.store.records import SweepRecord, record_of
from harness.store.rows import (
    AccuracyRow,
    CellRow,
    DeviceRow,
    FileCheckRow,
    InvocationRow,
    NightAccuracy,
    NightDevice,
    NightInvocation,
    NightVariant,
    SweepRows,
    TimeSpent,
    ToolRow,
    VariantRow,
)
from harness.store.sqlite import file_engine, open_file
from harness.store.versions import prepare_tables
from harness.text import pluralize

ALL = "all"
"""Names every sweep of a store."""

_LATEST = re.compile(r"latest(~(?P<back>\d{1,6}))?")
_HEAVY = ("telemetry_before", "telemetry_during", "telemetry_after", "gate")
"""Columns that hold most bytes of an invocation; nothing is computed from them."""

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


def open_backend(place: StoreLocation, tell: Callable[[str], None], *, must_exist: bool = False) -> Backend:
    """Connect to a store and bring its tables up to date; `tell` reports when a server goes and comes back."""
    _LOG.info("opening store %s", place.title)
    engine = server_engine(place.url) if place.is_shared else file_engine(place.url)
    try:
        with explained(place.title):
            prepare_tables(engine, place.title, must_exist=must_exist)
    except BaseException:
        engine.dispose()
        raise
    return open_server(engine, place.title, tell) if place.is_shared else open_file(engine, place.folder, place.title)


class StoreReader:
    """Results of many sweeps: one database with their rows, and their raw logs."""

    def __init__(self, place: StoreLocation, *, must_exist: bool = False) -> None:
        """Connect. Raises as `open` does."""
        self.folder = place.folder
        """Files of this host: raw logs and locks next to a SQLite file, and what a night writes."""
        self.title = place.title
        """For people."""
        self.tell: Callable[[str], None] = lambda _sentence: None
        """Called when a server stops answering and when it is back; for a watcher to set."""
        backend = open_backend(place, self._tell, must_exist=must_exist)
        self._engine = backend.engine
        self._transactions = backend.transactions
        self.logs = backend.logs
        self.locks = backend.locks
        """Held for each sweep that this store started or resumed, until it is finished or the store is closed."""

    def _tell(self, sentence: str) -> None:
        self.tell(sentence)

    @classmethod
    def open(cls, place: str | Path, *, must_exist: bool = False) -> Self:
        """Open a results folder (created if missing), a `.sqlite3` file, or a SQLAlchemy URL.

        Raises `UsageError` if this is not a results store, `MissingPrerequisiteError` if `must_exist` and nothing was
        ever stored there, and `HarnessError` if the server does not answer.
        """
        found = find_location(place)
        if found.is_shared:
            return cls(found, must_exist=must_exist)
        if must_exist and not Path(found.url.database or "").is_file():
            raise MissingPrerequisiteError(
                f"There are no results in {found.title}.", "Run `harness sweep` first, or name the folder: --results."
            )
        try:
            found.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The results folder {found.folder} cannot be made: {error.strerror}.",
                "Choose another with --results.",
            ) from error
        return cls(found)

    def close(self) -> None:
        """Close all connections, and release sweeps that were not finished."""
        self.locks.release_all()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- sweeps ----

    def sweeps(self) -> list[SweepRecord]:
        """Return all sweeps, the newest first."""
        rows = self._transactions.read(select(schema.sweeps).order_by(schema.sweeps.c.id.desc()))
        return [record_of(row._mapping) for row in rows]

    def find_sweep(self, name: str, *, measured: bool = True) -> SweepRecord:
        """Return the sweep that `latest`, `latest~1` (the one before), an id or its beginning names.

        A/A sweeps are never `latest`, nor, while `measured`, are sweeps in which no process ran: nobody who asks for
        the last sweep means one. Raises `UsageError`.
        """
        known = self.sweeps()
        if not known:
            raise MissingPrerequisiteError(f"There are no sweeps in {self.title}.", "Run `harness sweep` first.")
        if latest := _LATEST.fullmatch(name):
            back = int(latest["back"] or 0)
            all_kinds = [sweep for sweep in known if not sweep.is_noise]
            ran = (sweep for sweep in all_kinds if not self._is_empty(sweep.id))
            sought = list(islice(ran, back + 1)) if measured else all_kinds
            sought = sought or all_kinds  # where no process ever ran, the last sweep says why
            if back < len(sought):
                return sought[back]
            raise UsageError(
                f"{name} does not exist: {self.title} holds {pluralize(len(sought), 'sweep')}, A/A sweeps left out.",
                "See `harness results list`.",
            )
        exact = [sweep for sweep in known if sweep.id == name]
        found = exact or [sweep for sweep in known if name and sweep.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        choices = ", ".join(sweep.id for sweep in (found or known)[:5])
        problem = f"fits {len(found)} sweeps" if found else "fits no sweep"
        raise UsageError(f"{name!r} {problem} in {self.title}: {choices}.", "Give `latest` or more of the id.")

    def _is_empty(self, sweep_id: str) -> bool:
        """Return True if no process of a sweep ran."""
        tables = (schema.invocations, schema.accuracies)
        return not any(
            self._transactions.read(select(table.c.id).where(table.c.sweep_id == sweep_id).limit(1)) for table in tables
        )

    def sweep_ids(self, names: Sequence[str]) -> list[str]:
        """Return the ids of sweeps by names as `find_sweep` takes them, each once; `all` are all, oldest first."""
        if ALL in names:
            return sorted(sweep.id for sweep in self.sweeps())
        return list(dict.fromkeys(self.find_sweep(name).id for name in names))

    def read_sweeps(self, sweep_ids: Collection[str], *, telemetry: bool = False) -> list[SweepRows]:
        """Return the rows of several sweeps with one query per table; gates and telemetry only if asked for."""
        records = {record.id: record for record in self.sweeps() if record.id in sweep_ids}
        devices, variants = _by_sweep(self.devices(*sweep_ids)), _by_sweep(self.variants(*sweep_ids))
        tools, cells = _by_sweep(self.tools(*sweep_ids)), _by_sweep(self.cells(*sweep_ids))
        invocations = _by_sweep(self.invocations(*sweep_ids, telemetry=telemetry))
        accuracies = _by_sweep(self.accuracies(*sweep_ids))
        file_checks = _by_sweep(self.file_checks(*sweep_ids))
        return [
            SweepRows(
                sweep_id,
                records.get(sweep_id),
                devices.get(sweep_id, ()),
                variants.get(sweep_id, ()),
                tools.get(sweep_id, ()),
                cells.get(sweep_id, ()),
                invocations.get(sweep_id, ()),
                accuracies.get(sweep_id, ()),
                file_checks.get(sweep_id, ()),
            )
            for sweep_id in dict.fromkeys(sweep_ids)
        ]

    # ---- the rows of sweeps, in the order of the primary key ----

    def devices(self, *sweep_ids: str) -> list[DeviceRow]:
        """Return the devices of these sweeps."""
        return self._rows(DeviceRow, schema.devices, sweep_ids)

    def variants(self, *sweep_ids: str) -> list[VariantRow]:
        """Return the recipes of these sweeps, also those that gave no variant."""
        return self._rows(VariantRow, schema.variants, sweep_ids)

    def tools(self, *sweep_ids: str) -> list[ToolRow]:
        """Return the binaries that measured in these sweeps."""
        return self._rows(ToolRow, schema.tools, sweep_ids)

    def cells(self, *sweep_ids: str) -> list[CellRow]:
        """Return the cells of these sweeps."""
        return self._rows(CellRow, schema.cells, sweep_ids)

    def invocations(self, *sweep_ids: str, telemetry: bool = True) -> list[InvocationRow]:
        """Return every attempt of every process, in the order of time; gates and telemetry unless declined."""
        return self._rows(InvocationRow, schema.invocations, sweep_ids, without=() if telemetry else _HEAVY)

    def accuracies(self, *sweep_ids: str) -> list[AccuracyRow]:
        """Return every attempt of the accuracy pass, in the order of time."""
        return self._rows(AccuracyRow, schema.accuracies, sweep_ids)

    def file_checks(self, *sweep_ids: str) -> list[FileCheckRow]:
        """Return every look at the files on the devices, in the order of time."""
        return self._rows(FileCheckRow, schema.file_checks, sweep_ids)

    # ---- questions across sweeps ----

    def read_sql(self, query: str) -> Sequence[AnyRow]:
        """Return the rows of a query in SQL that both databases understand."""
        return self._transactions.read(text(query))

    def count_invocations(self) -> dict[str, int]:
        """Return the number of stored processes of each sweep that has any."""
        column = schema.invocations.c.sweep_id
        rows = self._transactions.read(select(column, func.count()).group_by(column))
        return {row[0]: row[1] for row in rows}

    def time_spent(self, sweep_ids: Collection[str]) -> list[TimeSpent]:
        """Return the time that the invocations, then the accuracy passes, of each sweep and cell took."""
        spent: list[TimeSpent] = []
        for table in (schema.invocations, schema.accuracies):
            place = (table.c.sweep_id, table.c.cell_key)
            query = select(*place, func.sum(table.c.wall_s), func.count())
            rows = self._transactions.read(query.where(table.c.sweep_id.in_(sweep_ids)).group_by(*place))
            spent += [TimeSpent(*row) for row in rows]
        return spent

    def cells_named(
        self, *, variant: str | None, delegate: str | None, serial: str | None, threads: int | None
    ) -> list[CellRow]:
        """Return the cells of every sweep that fit the names given, oldest sweep first."""
        names = {"variant_name": variant, "delegate": delegate, "serial": serial, "threads": threads}
        wanted = [schema.cells.c[name] == value for name, value in names.items() if value is not None]
        return self._select(CellRow, _columns(CellRow, schema.cells), *wanted, order=[schema.cells.c.sweep_id])

    def devices_of_nights(self, sweep_ids: Collection[str]) -> list[NightDevice]:
        """Return the devices of many sweeps, a few columns of each."""
        table = schema.devices
        columns = _columns(NightDevice, table) | {"fingerprint": table.c.facts["fingerprint"].as_string()}
        return self._select(NightDevice, columns, table.c.sweep_id.in_(sweep_ids))

    def variants_of_nights(self, sweep_ids: Collection[str]) -> list[NightVariant]:
        """Return the variants of many sweeps, a few columns of each."""
        table = schema.variants
        columns = _columns(NightVariant, table) | {
            "model": table.c.card["model"].as_string(),
            "fidelity": table.c.card[("fidelity", "outcome")].as_string(),
        }
        return self._select(NightVariant, columns, table.c.sweep_id.in_(sweep_ids))

    def invocations_of_nights(
        self, sweep_ids: Collection[str], keys: Collection[str] | None = None
    ) -> list[NightInvocation]:
        """Return every attempt of the latency and memory passes, in the order of time; `keys` limits the cells."""
        table = schema.invocations
        wanted = [table.c.sweep_id.in_(sweep_ids), table.c.purpose.in_([Pass.LATENCY, Pass.MEMORY])]
        wanted += [] if keys is None else [table.c.cell_key.in_(keys)]
        return self._select(NightInvocation, _columns(NightInvocation, table), *wanted, order=[table.c.id])

    def accuracies_of_nights(
        self, sweep_ids: Collection[str], keys: Collection[str] | None = None
    ) -> list[NightAccuracy]:
        """Return every attempt of the accuracy pass, in the order of time; `keys` limits the cells."""
        table = schema.accuracies
        wanted = [table.c.sweep_id.in_(sweep_ids)] + ([] if keys is None else [table.c.cell_key.in_(keys)])
        return self._select(NightAccuracy, _columns(NightAccuracy, table), *wanted, order=[table.c.id])

    def _rows(self, kind: type[T], table: Table, sweep_ids: Sequence[str], *, without: Collection[str] = ()) -> list[T]:
        columns = {name: column for name, column in _columns(kind, table).items() if name not in without}
        return self._select(kind, columns, table.c.sweep_id.in_(sweep_ids), order=table.primary_key.columns)

    def _select(
        self,
        kind: type[T],
        columns: Mapping[str, ColumnElement[Any]],
        *wanted: ColumnElement[bool],
        order: Iterable[ColumnElement[Any]] = (),
    ) -> list[T]:
        query = select(*columns.values()).where(*wanted).order_by(*order)
        return [kind(**dict(zip(columns, row, strict=True))) for row in self._transactions.read(query)]


def _columns(kind: type, table: Table) -> dict[str, ColumnElement[Any]]:
    """Return the columns of a table that a kind of row holds, by the names of its fields."""
    return {field.name: table.c[field.name] for field in fields(kind) if field.name in table.c}


def _by_sweep(rows: Iterable[T]) -> dict[str, list[T]]:
    grouped: dict[str, list[T]] = {}
    for row in rows:
        grouped.setdefault(row.sweep_id, []).append(row)  # type: ignore[attr-defined]
    return grouped
