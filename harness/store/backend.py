"""What a store needs of its database: transactions and raw logs. SQLite and PostgreSQL offer them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Row, Select, TextClause

from harness.errors import HarnessError
from harness.store.locks import SweepLocks
from harness.store.records import Cell, safe_name, sweep_folder

Query = Select[*tuple[Any, ...]] | TextClause
AnyRow = Row[*tuple[Any, ...]]
Work = Callable[[Connection], object]
"""The statements of one transaction. They may run again from the start, so they must change nothing else."""
WasCommitted = Callable[[Connection], bool]
"""Returns True if an earlier try of the same work was committed although the reply was lost."""

WRITES = "harness_writes"
"""Execution option of a connection that is going to write."""


class Transactions(Protocol):
    """How a store reads and writes. Raises `HarnessError` for what the database refuses."""

    def write(self, work: Work, was_committed: WasCommitted | None = None) -> None:
        """Run one transaction; when this returns, it is on disk. Work that may run twice needs no `was_committed`.

        If `was_committed` is given, the database itself must refuse a second copy.
        """
        ...

    def read(self, query: Query) -> Sequence[AnyRow]:
        """Return all rows of a query."""
        ...


@dataclass(frozen=True)
class Log:
    """The output of one finished process."""

    sweep_id: str
    path: PurePosixPath
    text: str
    receipt: str
    """Made up once per log, whatever its path becomes: it shows later that the log was stored."""


@dataclass(frozen=True)
class LogSize:
    """The space that logs take."""

    files: int
    size_bytes: int
    """Compressed."""


class Logs(Protocol):
    """The raw logs of a store, by their paths."""

    def write(self, connection: Connection, log: Log) -> None:
        """Keep a log. It is on disk when the transaction of the connection is."""
        ...

    def has(self, connection: Connection, receipt: str) -> bool:
        """Return True if a log was committed although the reply was lost."""
        ...

    def read(self, path: str) -> str:
        """Return the text of a kept log. Raises `HarnessError` if it is missing or damaged."""
        ...

    def size(self, sweep_id: str) -> LogSize:
        """Return the space that a sweep's logs take."""
        ...


@dataclass(frozen=True)
class Backend:
    """One open database."""

    engine: Engine
    transactions: Transactions
    locks: SweepLocks
    logs: Logs


def log_path(sweep_id: str, cell: Cell, purpose: str, index: int, attempt: int) -> PurePosixPath:
    """Return a log's path inside the results folder, and its name in a database.

    Such as `20261124-083000-ab12/logs/R58M/int8--gpu--t1--4f0c2d1e9a8b7c6d--latency-003-1.log.gz`: serial, variant,
    delegate, threads, cell key, pass, index and attempt.
    """
    name = f"{safe_name(cell.variant_name)}--{safe_name(cell.delegate)}--t{cell.threads}--{cell.key}"
    return (
        PurePosixPath(sweep_folder(sweep_id))
        / "logs"
        / safe_name(cell.serial)
        / f"{name}--{purpose}-{index:03}-{attempt}.log.gz"
    )


def pack(text: str) -> bytes:
    """Compress a log. The highest level needs minutes for a megabyte of noise."""
    return gzip.compress(text.encode("utf-8", "replace"), compresslevel=6, mtime=0)


def unpack(data: bytes, path: str) -> str:
    """Return the text of a compressed log. Raises `HarnessError` if it is damaged."""
    try:
        return gzip.decompress(data).decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(path, str(error)) from error


def unreadable(path: str, reason: str) -> HarnessError:
    """Return the error for a log that is missing or damaged."""
    return HarnessError(f"Cannot read the log {path}: {reason}.", "See `harness explain` for the logs of a row.")
