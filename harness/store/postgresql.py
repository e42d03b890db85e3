"""A store in a PostgreSQL database that several hosts share: engine, transactions, locks of sweeps and raw logs."""

from __future__ import annotations

import hashlib
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from harness.errors import UsageError
from harness.store import schema
from harness.store.backend import (
    AnyRow,
    Backend,
    Log,
    LogSize,
    Query,
    Transactions,
    WasCommitted,
    Work,
    pack,
    unpack,
    unreadable,
)
from harness.store.errors import explained, is_conflict, is_lost
from harness.store.locks import SweepLocks, in_use
from harness.text import to_json

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CONNECTION_NAME = "harness_connection_name"
"""Key of a PostgreSQL connection's `info`: the name by which the server knows it (`application_name`), and no other."""

_CONNECTING: dict[str, str | int] = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Parameters of PostgreSQL's client (seconds; the last in milliseconds): a cut cable is noticed within a minute."""
_SERVER_KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""The same for the server's side (seconds), so that what a host that is gone had locked is free after a minute."""

LONGEST_OUTAGE_S = 120.0
"""For so long a server that went away is waited for."""
_LOOK_EVERY_S = 0.5
_MOST_CONFLICTS = 20
"""So often the same transaction is made again since another writer was faster; two that meet are done after one."""
_CONFLICT_PAUSE_S = 0.05


def open_server(engine: Engine, title: str, tell: Callable[[str], None]) -> Backend:
    """Return the parts of a store in a PostgreSQL database; `tell` reports when the server goes and comes back."""
    locks = ServerSweepLocks(engine, title)
    transactions = ServerTransactions(engine, title, after_outage=locks.renew, tell=tell)
    return Backend(engine, transactions, locks, LogTable(transactions))


def server_engine(url: URL) -> Engine:
    """Return an engine that connects when it is first used. Raises `UsageError` if its driver is missing."""
    arguments = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    try:
        engine = create_engine(url, connect_args=arguments, json_serializer=to_json)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"A PostgreSQL store needs a driver that is not installed: {error.name}.",
            "Install it: pip install 'harness[postgresql]'.",
        ) from error
    except NoSuchModuleError:
        raise UsageError(
            f"There is no PostgreSQL driver {url.get_driver_name()!r}.", "Write postgresql+psycopg:// in the URL."
        ) from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    name = record.info[CONNECTION_NAME] = f"harness {secrets.token_hex(8)}"
    with connection.cursor() as cursor:
        for setting in {**_SERVER_KEEPALIVES, "application_name": name}.items():
            cursor.execute("SELECT set_config(%s, %s, false)", setting)
    connection.commit()


def end_connection(connection: Connection, name: str) -> None:
    """Let a PostgreSQL server end another connection of this user.

    A server that does not notice that a client is gone keeps the client's locks until it does.
    """
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
    connection.execute(text(f"{query} AND pid <> pg_backend_pid()"), {"name": name})


class _Once(Protocol[T_co]):
    """One try; it receives True if a connection was lost in an earlier one."""

    def __call__(self, *, after_loss: bool) -> T_co:
        """Try once. Raises `DBAPIError`."""
        ...


class ServerTransactions:
    """Of a PostgreSQL server that may restart, or be out of reach for a while.

    A transaction that failed since another writer was faster, or since the connection was lost, is made again. Where it
    was lost while it was being committed, nobody but the server knows what became of it: the next try asks
    `was_committed`.
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

    def write(self, work: Work, was_committed: WasCommitted | None = None) -> None:
        """Carry out one transaction."""
        used: list[str] = []

        def once(*, after_loss: bool) -> None:
            with self._engine.begin() as connection:
                used.append(connection.info[CONNECTION_NAME])
                if not after_loss or was_committed is None or not was_committed(connection):
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


_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_LET_GO = text("SELECT pg_advisory_unlock(:key)")
_IS_HELD = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (classid::bigint << 32) | objid::bigint = :key"
)
_RENEWAL_LIMIT_S = 10.0
_PAUSE_S = 0.1


class ServerSweepLocks(SweepLocks):
    """Advisory locks of a PostgreSQL server, all held by one connection, which is open while any is."""

    across_hosts = True

    def __init__(self, engine: Engine, title: str) -> None:
        self._engine = engine
        self._title = title
        self._connection: Connection | None = None
        self._name = ""
        """Of the connection, or of the one that was lost."""
        self._held: set[str] = set()
        self._guard = threading.RLock()

    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released."""
        with self._guard, explained(self._title):
            if sweep_id in self._held:
                return
            try:
                if not self._connected().scalar(_TAKE, {"key": _key(sweep_id)}):
                    raise in_use(sweep_id)
                self._held.add(sweep_id)
            finally:
                self._rest()

    def release(self, sweep_id: str) -> None:
        """Let a sweep go, if it is held; a connection that was lost has done so itself."""
        with self._guard:
            if sweep_id in self._held:
                self._held.remove(sweep_id)
                with suppress(SQLAlchemyError):
                    self._connected().scalar(_LET_GO, {"key": _key(sweep_id)})
                self._rest()

    def release_all(self) -> None:
        """Let all go."""
        with self._guard:
            self._held.clear()
            self._rest()

    def is_free(self, sweep_id: str) -> bool:
        """Return True if nobody holds a sweep, on any computer, this process included."""
        with explained(self._title), self._engine.connect() as connection:
            return not connection.scalar(_IS_HELD, {"key": _key(sweep_id)})

    def renew(self) -> None:
        """Hold again what was held, after connections were lost.

        Raises `UsageError` if another process took a sweep meanwhile, `SQLAlchemyError` if the server is away.
        """
        with self._guard:
            if not self._held or self._answers():
                return
            lost = self._name
            self._disconnect()
            connection = self._connected()
            end_connection(connection, lost)  # the server may not know yet
            for sweep_id in self._held:
                if not _taken_in_time(connection, sweep_id):
                    raise UsageError(
                        f"While {self._title} was away, another harness took sweep {sweep_id} over.",
                        "Leave it to that one, or use --resume when it has ended.",
                    )

    def _answers(self) -> bool:
        try:
            return self._connection is not None and self._connection.scalar(text("SELECT true")) is True
        except SQLAlchemyError:
            return False

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._name = self._connection.info[CONNECTION_NAME]
        return self._connection

    def _rest(self) -> None:
        """Give the connection up when nothing is held."""
        if not self._held:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.invalidate()  # not back into the pool: what it still holds ends with it
                self._connection.close()
            self._connection = None


def _taken_in_time(connection: Connection, sweep_id: str) -> bool:
    """Take a lock that our own lost connection may still hold for a moment."""
    until = time.monotonic() + _RENEWAL_LIMIT_S
    while not connection.scalar(_TAKE, {"key": _key(sweep_id)}):
        if time.monotonic() > until:
            return False
        time.sleep(_PAUSE_S)
    return True


def _key(sweep_id: str) -> int:
    """Return the 64 bits by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(f"harness sweep {sweep_id}".encode()).digest()[:8], signed=True)


class LogTable:
    """Logs as rows of the database, so that every host that reaches it can read them."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def write(self, connection: Connection, log: Log) -> None:
        """Keep a log in the transaction of the row that names it."""
        row = {"path": log.path.as_posix(), "sweep_id": log.sweep_id, "receipt": log.receipt}
        connection.execute(insert(schema.logs).values(row | {"content": pack(log.text)}))

    def has(self, connection: Connection, receipt: str) -> bool:
        """Look for the receipt."""
        return connection.scalar(select(schema.logs.c.path).where(schema.logs.c.receipt == receipt)) is not None

    def read(self, path: str) -> str:
        """Return the text of a kept log. Raises `HarnessError` if it is missing or damaged."""
        rows = self._transactions.read(select(schema.logs.c.content).where(schema.logs.c.path == path))
        if not rows:
            raise unreadable(path, "it is not in the store")
        return unpack(rows[0].content, path)

    def size(self, sweep_id: str) -> LogSize:
        """Return what a sweep's logs take up."""
        table = schema.logs
        query = select(func.count(), func.sum(func.length(table.c.content))).where(table.c.sweep_id == sweep_id)
        ((files, size_bytes),) = self._transactions.read(query)
        return LogSize(files, size_bytes or 0)
