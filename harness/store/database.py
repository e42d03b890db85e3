"""Open the database behind a store: a SQLite file, or PostgreSQL."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import NoSuchModuleError

from harness.errors import UsageError
from harness.text import to_json

_LOG = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 60
"""How long one process waits for another one's write to a SQLite file."""

WRITES = "harness_writes"
"""Execution option of a connection that is going to write."""

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


def make_engine(url: URL) -> Engine:
    """Return an engine that connects when it is first used. Raises `UsageError` where its driver is missing."""
    _LOG.info("opening store %s", url.render_as_string(hide_password=True))
    return _sqlite_engine(url) if url.get_backend_name() == "sqlite" else _postgresql_engine(url)


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, json_serializer=to_json)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    """Set what SQLite forgets between connections.

    WAL alone survives `kill -9`; `synchronous=FULL` makes a commit survive a power cut too. It costs one fsync for
    each invocation, milliseconds beside an invocation's seconds.
    """
    connection.isolation_level = None  # transactions are begun below, by hand
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at the start: a reader that turns writer fails at once instead of waiting its turn."""
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
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

    A server that was not told that a client is gone goes on holding what that had locked, until it notices by itself.
    """
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
    connection.execute(text(f"{query} AND pid <> pg_backend_pid()"), {"name": name})
