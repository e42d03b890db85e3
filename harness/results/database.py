"""Open the database behind the store, and turn its errors into sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from harness.errors import HarnessError, UsageError
from harness.results.plain import to_json
from harness.results.schema import SCHEMA_VERSION, metadata, schema_versions

BUSY_TIMEOUT_S = 60
"""How long one process waits for another one's write."""

WRITES = "harness_writes"
"""Execution option of a connection that is going to write."""


def open_engine(url: str) -> Engine:
    """Connect, make the tables where there are none, and check the schema's version.

    Raises `UsageError` for a URL that means nothing, a file that is no results store, or one of a newer harness.
    """
    try:
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        arguments = {"timeout": BUSY_TIMEOUT_S} if is_sqlite else {}
        engine = create_engine(url, connect_args=arguments, json_serializer=to_json)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            f"The results store {url!r} cannot be opened: {error}.",
            "Give a folder, or a SQLAlchemy URL whose driver is installed.",
        ) from error
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with explained(url):
        _check_schema(engine, url)
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


def _check_schema(engine: Engine, url: str) -> None:
    existing = set(inspect(engine).get_table_names())
    if existing and schema_versions.name not in existing:
        raise UsageError(
            f"{_place(url)} is a database, but not a results store of harness.", "Choose another folder with --results."
        )
    if not existing:
        with engine.execution_options(**{WRITES: True}).begin() as connection:
            metadata.create_all(connection)
            if connection.scalar(select(schema_versions.c.version)) is None:  # two processes may come here at once
                connection.execute(insert(schema_versions).values(version=SCHEMA_VERSION))
    with engine.connect() as connection:
        found = connection.scalar(select(schema_versions.c.version))
    if found is not None and found < SCHEMA_VERSION:
        found = _bring_up_to_date(engine)
    if found != SCHEMA_VERSION:
        raise UsageError(
            f"{_place(url)} has schema version {found}; this harness reads version {SCHEMA_VERSION}.",
            "Update harness, or choose another folder with --results.",
        )


def _bring_up_to_date(engine: Engine) -> int:
    """Add the columns that an older store lacks; all that it holds stays as it is. Returns the store's new version."""
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        metadata.create_all(connection)
        inspector = inspect(connection)
        for table in metadata.sorted_tables:
            there = {column["name"] for column in inspector.get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:  # another process may have added it meanwhile
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {_definition(column, engine)}")
        connection.execute(update(schema_versions).values(version=SCHEMA_VERSION))
    return SCHEMA_VERSION


def _definition(column: Column[Any], engine: Engine) -> str:
    return f"{column.name} {column.type.compile(engine.dialect)}"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the database's errors into `HarnessError`s with advice; whatever was committed before stays committed."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _explain(error, url) from error


_EXPLANATIONS: tuple[tuple[str, type[HarnessError], str, str], ...] = (
    ("is not a database", UsageError, "is not a results store", "Choose another folder with --results."),
    ("unable to open", UsageError, "cannot be opened", "Check the folder's permissions, or choose another: --results."),
    ("readonly", UsageError, "cannot be written", "Check the folder's permissions, or choose another: --results."),
    (
        "is full",
        HarnessError,
        "cannot grow",
        "Free space on this host, then start the same sweep with --resume; everything stored before is kept.",
    ),
    ("malformed", HarnessError, "is damaged", "The raw logs beside it are intact; restore the file from a copy."),
    ("locked", HarnessError, "is in use", "Wait for the other command to end, then try again."),
)
"""What SQLite says, and what that means: kind of error, sentence, advice."""


def _explain(error: SQLAlchemyError, url: str) -> HarnessError:
    cause = str(getattr(error, "orig", None) or error).split("\n", maxsplit=1)[0]
    for sign, kind, sentence, advice in _EXPLANATIONS:
        if sign in cause:
            return kind(f"{_place(url)} {sentence}: {cause}.", advice)
    return HarnessError(
        f"The results store {_place(url)} failed: {cause}.", "Check the disk; everything stored before is kept."
    )


def _place(url: str) -> str:
    """Name the store for people: a file's path, or the URL without its password."""
    parsed = make_url(url)
    return parsed.database or "memory" if parsed.get_backend_name() == "sqlite" else parsed.render_as_string()
