"""A store in one SQLite file: its engine, transactions, locks of sweeps and raw logs, which are files next to it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from harness.errors import HarnessError
from harness.store.backend import (
    WRITES,
    AnyRow,
    Backend,
    Log,
    LogSize,
    Query,
    WasCommitted,
    Work,
    pack,
    unpack,
    unreadable,
)
from harness.store.errors import explained
from harness.store.locks import FileSweepLocks
from harness.store.records import sweep_folder
from harness.text import to_json

BUSY_TIMEOUT_S = 60
"""How long one process waits for another one's write; shorter, and many writers would fail each other."""
_SWITCH_PAUSE_S = 0.02


def open_file(engine: Engine, folder: Path, title: str) -> Backend:
    """Return the parts of a store in a SQLite file with logs and locks in `folder`."""
    return Backend(engine, FileTransactions(engine, title), FileSweepLocks(folder), LogFiles(folder))


class _OpenedFile:
    """The file that connections were opened to: SQLite would write on into one that was removed."""

    def __init__(self, engine: Engine) -> None:
        self._path = Path(engine.url.database or "")
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def require(self) -> None:
        """Raise `HarnessError` if the path no longer leads to the file."""
        if self._look() != self._identity:
            raise HarnessError(
                f"The results file {self._path} was removed or replaced while it was in use.",
                "Restore it, or start the sweep again; compressed variants still come from the cache.",
            )


def file_engine(url: URL) -> Engine:
    """Return an engine that connects when it is first used."""
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, json_serializer=to_json)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Set what SQLite forgets between connections.

    WAL alone survives `kill -9`; `synchronous=FULL` makes a commit survive a power cut too. It costs one fsync for
    each invocation, milliseconds next to an invocation's seconds.
    """
    connection.isolation_level = None  # transactions are begun below, by hand
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, retrying: SQLite's own timeout does not cover the first switch of a new file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_SWITCH_PAUSE_S)


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at the start: a reader that turns writer fails at once instead of waiting its turn."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class FileTransactions:
    """Of a SQLite file: one write at a time in this process; between processes the file's own lock decides."""

    def __init__(self, engine: Engine, title: str) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITES: True})
        self._title = title
        self._file = _OpenedFile(engine)
        self._one_at_a_time = threading.Lock()

    def write(self, work: Work, was_committed: WasCommitted | None = None) -> None:
        """Carry out one transaction. A file's connection is never lost, so nothing is done twice."""
        with self._one_at_a_time, explained(self._title), self._writer.begin() as connection:
            self._file.require()
            work(connection)

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        with explained(self._title), self._engine.connect() as connection:
            self._file.require()
            return connection.execute(query).all()


class LogFiles:
    """Logs as files in a results folder; all that lies in a sweep's folder counts as its logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, connection: Connection, log: Log) -> None:
        """Write a log so that a reader sees all of it or nothing, also after a power cut. Raises `HarnessError`."""
        file = self._folder / log.path
        unfinished = file.with_name(file.name + ".unfinished")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as opened:
                opened.write(pack(log.text))
                opened.flush()
                os.fsync(opened.fileno())
            unfinished.replace(file)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise HarnessError(
                f"The log {file} could not be written: {error.strerror}.",
                "Free space or check permissions, then start the same sweep with --resume; what was stored before is "
                "kept.",
            ) from error

    def has(self, connection: Connection, receipt: str) -> bool:
        """Files have no receipts: what becomes of a transaction on a SQLite file is always heard."""
        return False

    def read(self, path: str) -> str:
        """Return the text of a kept log. Raises `HarnessError` if it is missing or damaged."""
        file = self._folder / path
        if not file.resolve().is_relative_to(self._folder.resolve()):
            raise unreadable(path, "it lies outside of the results folder")
        try:
            return unpack(file.read_bytes(), path)
        except OSError as error:
            raise unreadable(path, error.strerror or str(error)) from error

    def size(self, sweep_id: str) -> LogSize:
        """Return what a sweep's folder takes up."""
        folder = self._folder / sweep_folder(sweep_id)
        files = [] if folder.is_symlink() else folder.rglob("*")  # what lies behind a link is not removed with it
        sizes = [path.lstat().st_size for path in files if path.is_file()]
        return LogSize(len(sizes), sum(sizes))
