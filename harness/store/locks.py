"""Which sweeps are being measured right now: one lock a sweep, which ends with its process, however that ends.

In a results folder that is a file's lock, which holds on one computer. In a database that hosts share it is an advisory
lock of PostgreSQL's, which ends with the connection that took it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import UsageError
from harness.store.database import CONNECTION_NAME, end_connection
from harness.store.errors import explained
from harness.store.logs import sweep_folder

FOLDER = ".locks"
"""Inside the results folder; not in the sweep's own folder, which a prune removes."""


class SweepLocks(ABC):
    """The locks that one process holds in one store."""

    across_hosts: bool
    """Whether a sweep that another computer measures is seen to be held."""

    @abstractmethod
    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released. Raises `UsageError` where another process holds it, or it cannot be."""

    @abstractmethod
    def release(self, sweep_id: str) -> None:
        """Let a sweep go, if it is held."""

    @abstractmethod
    def release_all(self) -> None:
        """Let all go."""

    @abstractmethod
    def is_free(self, sweep_id: str) -> bool:
        """Tell whether nobody holds a sweep, this process included; where that cannot be known, it is not free."""

    @contextmanager
    def holding(self, sweep_id: str) -> Iterator[None]:
        """Hold a sweep for the length of a `with` block. Raises `UsageError` as `acquire` does."""
        self.acquire(sweep_id)
        try:
            yield
        finally:
            self.release(sweep_id)


class FileSweepLocks(SweepLocks):
    """Locks of files in a results folder."""

    across_hosts = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._held: dict[str, FileLock] = {}

    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released."""
        if sweep_id in self._held:
            return
        # A store is opened by one thread and may be closed by another, and a results folder may have several users.
        lock = FileLock(self._path(sweep_id), timeout=0, thread_local=False, mode=0o666)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise _in_use(sweep_id) from None
        except OSError as error:
            raise UsageError(
                f"The lock of sweep {sweep_id} in {self._folder} cannot be taken: {error.strerror}.",
                "Check the folder's permissions, or choose another folder with --results.",
            ) from error
        self._held[sweep_id] = lock

    def release(self, sweep_id: str) -> None:
        """Let a sweep go, if it is held."""
        if lock := self._held.pop(sweep_id, None):
            self._path(sweep_id).unlink(missing_ok=True)  # whoever waits for it sees that it is gone, and makes another
            lock.release()

    def release_all(self) -> None:
        """Let all go."""
        for sweep_id in list(self._held):
            self.release(sweep_id)

    def is_free(self, sweep_id: str) -> bool:
        """Tell whether nobody holds a sweep, this process included; where that cannot be known, it is not free."""
        if sweep_id in self._held:
            return False
        if not self._path(sweep_id).exists():
            return True
        try:
            with self.holding(sweep_id):
                return True
        except UsageError:
            return False

    def _path(self, sweep_id: str) -> Path:
        return self._folder / f"{sweep_folder(sweep_id)}.lock"


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
                    raise _in_use(sweep_id)
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
        """Tell whether nobody holds a sweep, on any computer, this process included."""
        with explained(self._title), self._engine.connect() as connection:
            return not connection.scalar(_IS_HELD, {"key": _key(sweep_id)})

    def renew(self) -> None:
        """Hold again what was held, after connections were lost.

        Raises `UsageError` where another process took a sweep meanwhile, `SQLAlchemyError` where the server is away.
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
                        "Leave it to that one, or carry on with --resume when it has ended.",
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


def _in_use(sweep_id: str) -> UsageError:
    return UsageError(f"Sweep {sweep_id} is in use by another harness.", "Wait until that has ended, or end it.")
