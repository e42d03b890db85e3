"""Stores as older harnesses wrote them: dumps made by their own code, and the same on a server."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config

from harness.store.location import find_location
from harness.store.postgresql import server_engine
from harness.store.records import FILE_NAME
from harness.store.sqlite import file_engine
from harness.store.versions import MIGRATIONS

DUMPS = sorted(Path(__file__).with_name("data").glob("store-of-version-*.sql"))


def restore(dump, folder):
    """Make the SQLite file that the dump was taken of."""
    folder.mkdir(exist_ok=True)
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.executescript(dump.read_text())
    connection.close()
    return folder


def migrate(place, revision):
    """Bring a store, or an empty database, to a revision by Alembic alone."""
    location = find_location(place)
    engine = (server_engine if location.is_shared else file_engine)(location.url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, revision)
    engine.dispose()


def make_old_on_server(server, url):
    """Make a store of version 4, as a harness without Alembic left it, in an empty database."""
    migrate(url, "0004")
    database = find_location(url).url.database
    server.execute("DROP TABLE alembic_version", database)
    server.execute("CREATE TABLE schema_versions (version BIGINT PRIMARY KEY)", database)
    server.execute("INSERT INTO schema_versions VALUES (4)", database)
    return url
