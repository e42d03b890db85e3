"""Transactions that are carried out whole and once, also where the database is on a server that restarts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, Select
from sqlalchemy.exc import DBAPIError

from harness.store.database import CONNECTION_NAME, WRITES, end_connection
from harness.store.errors import explained, is_conflict, is_lost

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Query = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]
Work = Callable[[Connection], object]
"""What is done inside one transaction. It may be done again from the start, so it must change nothing else."""
WasMade = Callable[[Connection], bool]
"""Tells whether an earlier try of the same work was committed, whatever was heard of it."""

LONGEST_OUTAGE_S = 120.0
"""For so long a server that went away is waited for."""
_LOOK_EVERY_S = 0.5
_MOST_CONFLICTS = 20
"""So often the same transaction is made again since another writer was faster; two that meet are done after one."""
_CONFLICT_PAUSE_S = 0.05


class Transactions(Protocol):
    """How a store reads and writes. Raises `HarnessError` for what the database refuses."""

    def write(self, work: Work, was_made: WasMade | None = None) -> None:
        """Carry out one transaction; when this returns, it is on disk. Work that may be done twice needs no `was_made`.

        Where `was_made` is given, the database itself must refuse what is stored a second time.
        """
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

    def write(self, work: Work, was_made: WasMade | None = None) -> None:
        """Carry out one transaction. A file's connection is never lost, so nothing is done twice."""
        with self._one_at_a_time, explained(self._title), self._writer.begin() as connection:
            work(connection)

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        with explained(self._title), self._engine.connect() as connection:
            return connection.execute(query).all()


class _Once(Protocol[T_co]):
    """One try; told whether a connection was lost in an earlier one."""

    def __call__(self, *, after_loss: bool) -> T_co:
        """Try once. Raises `DBAPIError`."""
        ...


class ServerTransactions:
    """Of a PostgreSQL server that may restart, or be out of reach for a while.

    A transaction that failed since another writer was faster, or since the connection was lost, is made again. Where it
    was lost while it was being committed, nobody but the server knows what became of it: the next try asks `was_made`.
    PostgreSQL's own `pg_xact_status` does not serve here: after a crash the numbers of transactions that were not yet
    on disk are given to others.
    """

    def __init__(
        self,
        engine: Engine,
        title: str,
        *,
        after_outage: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda _sentence: None,
        longest_outage_s: float = LONGEST_OUTAGE_S,
    ) -> None:
        """`after_outage` is called before the first transaction after a connection was lost; `tell` tells people."""
        self._engine = engine
        self._title = title
        self._after_outage = after_outage
        self._tell = tell
        self._longest_outage_s = longest_outage_s
        self._is_away = False
        self._telling = threading.Lock()

    def write(self, work: Work, was_made: WasMade | None = None) -> None:
        """Carry out one transaction."""
        used: list[str] = []

        def once(*, after_loss: bool) -> None:
            with self._engine.begin() as connection:
                used.append(connection.info[CONNECTION_NAME])
                if not after_loss or was_made is None or not was_made(connection):
                    work(connection)

        self._patiently(once, used)

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""

        def once(*, after_loss: bool) -> Sequence[AnyRow]:
            with self._engine.connect() as connection:
                return connection.execute(query).all()

        return self._patiently(once, [])

    def _patiently(self, once: _Once[T], used: Sequence[str]) -> T:
        """Do it again while that may help; `used` are the connections that it was tried on, by name."""
        until, conflicts = float("inf"), 0
        lost: Sequence[str] | None = None
        with explained(self._title):
            while True:
                try:
                    if lost is not None:
                        self._recover(lost)
                    result = once(after_loss=until < float("inf"))
                except DBAPIError as error:
                    if is_conflict(error) and conflicts < _MOST_CONFLICTS:
                        conflicts, lost = conflicts + 1, None
                        time.sleep(random.uniform(0, _CONFLICT_PAUSE_S))  # noqa: S311 - no secret
                    elif is_lost(error) and time.monotonic() < until:
                        until, lost = min(until, time.monotonic() + self._longest_outage_s), used[-1:]
                        self._tell_once(is_away=True)
                        time.sleep(_LOOK_EVERY_S)
                    else:
                        raise
                else:
                    self._tell_once(is_away=False)
                    return result

    def _tell_once(self, *, is_away: bool) -> None:
        """Tell when the server goes and when it is back, whichever thread sees it first."""
        if is_away is self._is_away:
            return
        with self._telling:
            if is_away is not self._is_away:
                self._is_away = is_away
                waited = f"does not answer; it is waited for, {self._longest_outage_s:.0f} s at most"
                self._tell(f"{self._title} {waited if is_away else 'answers again'}.")

    def _recover(self, lost: Sequence[str]) -> None:
        """Make sure that the server knows which connection is lost, and that sweeps are still held."""
        with self._engine.connect() as connection:
            for name in lost:
                end_connection(connection, name)
        self._after_outage()
