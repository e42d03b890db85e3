"""Raw logs, kept compressed under names that say what each is: as files, or in a database that hosts share."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import quote

from sqlalchemy import Connection, func, insert, select

from harness.errors import HarnessError
from harness.store import schema
from harness.store.records import Cell
from harness.store.transactions import Transactions

_LONGEST_NAME = 60
"""Characters of one name from outside, so that a file name stays under 255 bytes."""


@dataclass(frozen=True)
class Log:
    """What one finished process said."""

    sweep_id: str
    path: PurePosixPath
    text: str
    receipt: str
    """Made up once for this log, whatever its path becomes: by it the log is known to be stored."""


@dataclass(frozen=True)
class LogSize:
    """What logs take up."""

    files: int
    size_bytes: int
    """Compressed."""


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


def sweep_folder(sweep_id: str) -> str:
    """Return the name of a sweep's folder inside the results folder."""
    return safe_name(sweep_id)


def safe_name(text: str) -> str:
    """Quote a name from outside so that it can neither leave the folder nor upset a file system."""
    return quote(text, safe="", errors="replace").replace(".", "%2E", 1 if text.startswith(".") else 0)[:_LONGEST_NAME]


class Logs(Protocol):
    """Where a store keeps its raw logs, by their paths."""

    def write(self, connection: Connection, log: Log) -> None:
        """Keep a log. It is on disk when the transaction of the connection is."""
        ...

    def has(self, connection: Connection, receipt: str) -> bool:
        """Tell whether a log was stored, though nothing was heard of it."""
        ...

    def read(self, path: str) -> str:
        """Return the text of a kept log. Raises `HarnessError` where it is missing or damaged."""
        ...

    def size(self, sweep_id: str) -> LogSize:
        """Return what a sweep's logs take up."""
        ...


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
                opened.write(_packed(log.text))
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
        """Return the text of a kept log. Raises `HarnessError` where it is missing or damaged."""
        file = self._folder / path
        if not file.resolve().is_relative_to(self._folder.resolve()):
            raise _unreadable(path, "it lies outside of the results folder")
        try:
            return _unpacked(file.read_bytes(), path)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error

    def size(self, sweep_id: str) -> LogSize:
        """Return what a sweep's folder takes up."""
        files = (self._folder / sweep_folder(sweep_id)).rglob("*")
        sizes = [path.lstat().st_size for path in files if path.is_file()]
        return LogSize(len(sizes), sum(sizes))


class LogTable:
    """Logs as rows of the database, so that every host that reaches it can read them."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def write(self, connection: Connection, log: Log) -> None:
        """Keep a log in the transaction of the row that names it."""
        row = {"path": log.path.as_posix(), "sweep_id": log.sweep_id, "receipt": log.receipt}
        connection.execute(insert(schema.logs).values(row | {"content": _packed(log.text)}))

    def has(self, connection: Connection, receipt: str) -> bool:
        """Look for the receipt."""
        return connection.scalar(select(schema.logs.c.path).where(schema.logs.c.receipt == receipt)) is not None

    def read(self, path: str) -> str:
        """Return the text of a kept log. Raises `HarnessError` where it is missing or damaged."""
        rows = self._transactions.read(select(schema.logs.c.content).where(schema.logs.c.path == path))
        if not rows:
            raise _unreadable(path, "it is not in the store")
        return _unpacked(rows[0].content, path)

    def size(self, sweep_id: str) -> LogSize:
        """Return what a sweep's logs take up."""
        table = schema.logs
        query = select(func.count(), func.sum(func.length(table.c.content))).where(table.c.sweep_id == sweep_id)
        ((files, size_bytes),) = self._transactions.read(query)
        return LogSize(files, size_bytes or 0)


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode("utf-8", "replace"), mtime=0)


def _unpacked(data: bytes, path: str) -> str:
    try:
        return gzip.decompress(data).decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: str, reason: str) -> HarnessError:
    return HarnessError(f"The log {path} cannot be read: {reason}.", "See `harness explain` for the logs of a row.")
