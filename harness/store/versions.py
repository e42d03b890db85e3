"""Create the tables of a new store and migrate an older one, once even if many processes open it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, insert, inspect, select, text

from harness.errors import MissingPrerequisiteError, UsageError
from harness.store.backend import WRITES
from harness.store.schema import STORE_SCHEMA_VERSION, alembic_version, metadata

MIGRATIONS = Path(__file__).with_name("migrations")
OLDEST_VERSION = 5
"""No release wrote an older store; the scripts in `migrations/` start here."""
_LOCK = 0x6861726E657373
"""Key of PostgreSQL's lock on the tables themselves: the letters `harness`."""


def prepare_tables(engine: Engine, title: str, *, must_exist: bool = False) -> None:
    """Create the tables if there are none, and migrate those of an older version.

    Raises `UsageError` if the database is not a results store or a newer harness wrote it, and
    `MissingPrerequisiteError` if `must_exist` and there are no tables.
    """
    with engine.connect() as connection:
        version = find_version(connection, title)
    if version == STORE_SCHEMA_VERSION:
        return
    if version is None and must_exist:
        raise MissingPrerequisiteError(
            f"There are no results in {title}.", "Run `harness sweep` first, or name another place: --results."
        )
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        version = find_version(connection, title)  # another process may have been here meanwhile
        if version is None:
            metadata.create_all(connection)
            connection.execute(insert(alembic_version).values(version_num=revision(STORE_SCHEMA_VERSION)))
        elif version < STORE_SCHEMA_VERSION:
            _migrate(connection)


def find_version(connection: Connection, title: str) -> int | None:
    """Return the version of a store's tables, or None without tables. Raises `UsageError` as `prepare_tables` does."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if alembic_version.name in tables:
        version = int(connection.scalars(select(alembic_version)).one())
    else:
        raise UsageError(
            f"{title} is a database, but not a results store of harness.", "Choose another place with --results."
        )
    if version < OLDEST_VERSION:
        raise UsageError(
            f"{title} has schema version {version}; harness reads versions from {OLDEST_VERSION} on.",
            "Choose another place with --results.",
        )
    if version > STORE_SCHEMA_VERSION:
        raise UsageError(
            f"{title} has schema version {version}; this harness reads version {STORE_SCHEMA_VERSION}.",
            "Update harness, or choose another place with --results.",
        )
    return version


def revision(version: int) -> str:
    """Return the name that Alembic knows a version by."""
    return f"{version:04}"


def _migrate(connection: Connection) -> None:
    """Run the scripts that the store has not seen, inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    command.upgrade(config, "head")
