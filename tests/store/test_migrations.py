"""A store has the tables of the schema, and a store of an older version is migrated once and keeps all it holds."""

import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from results_examples import SWEEP, begin
from sqlalchemy import text

from harness.errors import HarnessError, MissingPrerequisiteError, UsageError
from harness.store import versions
from harness.store.listing import list_sweeps
from harness.store.records import FILE_NAME
from harness.store.schema import STORE_SCHEMA_VERSION, metadata
from harness.store.store import Store
from harness.store.versions import MIGRATIONS, revision

KINDS = ("sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def empty_place(request, tmp_path):
    return tmp_path if request.param == "sqlite" else request.getfixturevalue("shared_store_url")


@pytest.fixture
def next_version(monkeypatch, tmp_path):
    """Let harness have one more version, whose script adds a table `notes`."""
    folder = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (folder / "versions" / "notes.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        f'revision = "{revision(STORE_SCHEMA_VERSION + 1)}"\ndown_revision = "{revision(STORE_SCHEMA_VERSION)}"\n\n\n'
        'def upgrade():\n    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))\n'
    )
    monkeypatch.setattr(versions, "MIGRATIONS", folder)
    monkeypatch.setattr(versions, "STORE_SCHEMA_VERSION", STORE_SCHEMA_VERSION + 1)


def differences(store):
    with store._engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)


def tables(store):
    with store._engine.connect() as connection:
        is_server = connection.dialect.name == "postgresql"
        names = (
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            if is_server
            else "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        return set(connection.execute(text(names)).scalars()), versions


def test_a_new_store_has_the_tables_of_the_schema(empty_place):
    with Store.open(empty_place) as store:
        assert differences(store) == []
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


def test_the_newest_script_is_the_version_of_the_schema():
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [revision(STORE_SCHEMA_VERSION)]


def test_an_older_store_is_migrated_and_keeps_its_rows(empty_place, next_version, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(versions, "STORE_SCHEMA_VERSION", STORE_SCHEMA_VERSION)
        with Store.open(empty_place) as store:
            begin(store)
    with Store.open(empty_place) as store:
        names, numbers = tables(store)
        assert (names, numbers) == ({*metadata.tables, "notes"}, [revision(STORE_SCHEMA_VERSION + 1)])
        assert store.find_sweep("latest").id == SWEEP


def test_of_many_that_open_a_new_store_at_once_one_makes_it(empty_place):
    assert open_in_processes(empty_place, 4) == [0, 0, 0, 0]
    with Store.open(empty_place) as store:
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


def open_in_processes(place, count):
    """Open a store in processes that have all loaded their code before the first begins."""
    program = (
        "from harness.store.store import Store\nprint('ready', flush=True)\ninput()\n"
        f"Store.open({str(place)!r}).close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    return [process.returncode for process in processes]


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path, next_version):
    with pytest.MonkeyPatch.context() as before:
        before.setattr(versions, "STORE_SCHEMA_VERSION", STORE_SCHEMA_VERSION)
        Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TABLE notes (of_somebody_else TEXT)")
        before = list(connection.iterdump())
    with pytest.raises(HarnessError, match="table notes already exists"):
        Store.open(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("version", ["0001", "0004"])
def test_a_store_from_before_the_first_version_is_refused(empty_place, version):
    with Store.open(empty_place) as store:
        store._execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    with pytest.raises(UsageError, match=f"schema version {int(version)}; harness reads versions from 5 on"):
        Store.open(empty_place)


def test_a_newer_store_is_refused_and_not_touched(empty_place):
    with Store.open(empty_place) as store:
        store._execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(UsageError, match="schema version 999"):
        Store.open(empty_place)


def test_a_database_of_another_program_is_refused_and_not_touched(empty_place):
    with Store.open(empty_place) as store:
        store._execute(text("DROP TABLE alembic_version"))
    with pytest.raises(UsageError, match="not a results store"):
        Store.open(empty_place)


def test_an_empty_database_holds_no_results_and_stays_empty(shared_store_url, postgresql):
    with pytest.raises(MissingPrerequisiteError, match="There are no results in postgresql"):
        Store.open(shared_store_url, must_exist=True)
    assert list_sweeps(shared_store_url) == []
    database = shared_store_url.rsplit("/", 1)[1]
    assert postgresql.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database) == "0"


def test_alembic_is_not_loaded_for_a_current_store(tmp_path):
    program = (
        "import sys\nfrom harness.store.store import Store\n"
        f"Store.open({str(tmp_path / 'new')!r}).close(); Store.open({str(tmp_path / 'new')!r}).close()\n"
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
