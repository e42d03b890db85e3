"""Transactions that are carried out whole and once, also where the database is on a server that restarts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, text
from sqlalchemy.exc import DBAPIError

from harness.errors import HarnessError
from harness.results.database import WRITES
from harness.results.database_errors import explained, is_conflict, is_lost

T = TypeVar("T")
Query = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]
Work = Callable[[Connection], T]
"""What is done inside one transaction. It may be done again from the start, so it must change nothing else."""

LONGEST_OUTAGE_S = 120.0
"""For so long a server that went away is waited for."""
_LOOK_EVERY_S = 0.5
_MOST_CONFLICTS = 20
"""So often the same transaction is made again since another writer was faster; two that meet are done after one."""
_CONFLICT_PAUSE_S = 0.05


class Transactions(Protocol):
    """How a store reads and writes. Raises `HarnessError` for what the database refuses."""

    def write(self, work: Work[T]) -> T:
        """Carry out one transaction and return what `work` returned. When this returns, it is on disk."""
        ...

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        ...


class FileTransactions:
    """Of a SQLite file: one write at a time in this process; between processes the file's own lock decides."""

    def __init__(self, engine: Engine, title: str) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITES: True})
        self._title = title
        self._one_at_a_time = threading.Lock()

    def write(self, work: Work[T]) -> T:
        """Carry out one transaction."""
        with self._one_at_a_time, explained(self._title), self._writer.begin() as connection:
            return work(connection)

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        with explained(self._title), self._engine.connect() as connection:
            return connection.execute(query).all()


@dataclass(frozen=True)
class _Named:
    """A transaction as the server knows it."""

    transaction_id: str
    backend_pid: int


_NAME = text("SELECT pg_current_xact_id()::text, pg_backend_pid()")
_STATUS = text("SELECT pg_xact_status(CAST(:transaction_id AS xid8))")
_END = text("SELECT pg_terminate_backend(:backend_pid)")


class _Outage:
    """How long the server has been away, as one transaction sees it."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._began: float | None = None

    def wait(self) -> bool:
        """Wait a moment. Returns False, without waiting, once it has taken too long."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began >= self._longest_s:
            return False
        time.sleep(_LOOK_EVERY_S)
        return True


class ServerTransactions:
    """Of a PostgreSQL server that may restart, or be out of reach for a while.

    A transaction that failed since another writer was faster, or since the connection was lost, is made again. Where
    the connection was lost while it was being committed, nobody but the server knows what became of it: it is asked
    (`pg_xact_status`, made for this), so that nothing is stored twice.
    """

    def __init__(
        self,
        engine: Engine,
        title: str,
        *,
        after_outage: Callable[[], None] = lambda: None,
        longest_outage_s: float = LONGEST_OUTAGE_S,
    ) -> None:
        """`after_outage` is called before the first transaction after a connection was lost."""
        self._engine = engine
        self._title = title
        self._after_outage = after_outage
        self._longest_outage_s = longest_outage_s

    def write(self, work: Work[T]) -> T:
        """Carry out one transaction."""
        with explained(self._title):
            return self._patiently(lambda outage: self._write_once(work, outage))

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        with explained(self._title):
            return self._patiently(lambda _outage: self._read_once(query))

    def _read_once(self, query: Query) -> Sequence[AnyRow]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _patiently(self, action: Callable[[_Outage], T]) -> T:
        """Do it again while that may help. Raises the last error."""
        outage, conflicts, lost = _Outage(self._longest_outage_s), 0, False
        while True:
            try:
                if lost:
                    self._after_outage()
                return action(outage)
            except DBAPIError as error:
                if is_conflict(error) and conflicts < _MOST_CONFLICTS:
                    conflicts += 1
                    time.sleep(random.uniform(0, _CONFLICT_PAUSE_S))  # noqa: S311 - no secret
                elif is_lost(error) and outage.wait():
                    lost = True
                else:
                    raise

    def _write_once(self, work: Work[T], outage: _Outage) -> T:
        named, results = None, []
        try:
            with self._engine.begin() as connection:
                named = _Named(*connection.execute(_NAME).one())
                results.append(work(connection))
        except DBAPIError as error:
            if named is None or not is_lost(error) or not self._was_committed(named, outage):
                raise
            self._after_outage()
        return results[0]

    def _was_committed(self, named: _Named, outage: _Outage) -> bool:
        """Ask what became of a transaction whose connection was lost. Raises the last error where it stays away.

        One that the server still waits for is ended: it would hold its locks for as long as the server does not notice.
        """
        while True:
            try:
                with self._engine.connect() as connection:
                    status = connection.scalar(_STATUS, {"transaction_id": named.transaction_id})
                    if status != "in progress":
                        return bool(status == "committed")
                    connection.execute(_END, {"backend_pid": named.backend_pid})
            except DBAPIError as error:
                if not is_lost(error) or not outage.wait():
                    raise
            else:
                if not outage.wait():
                    raise HarnessError(
                        f"{self._title} does not end a transaction whose connection was lost.",
                        "Ask its administrator to look at it, then start the same sweep with --resume.",
                    )
