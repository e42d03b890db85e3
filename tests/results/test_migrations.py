"""Stores of older versions are changed once, keep all they hold, and end with the tables that a new store has."""

import os
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from old_stores import DUMPS, make_old_on_server, migrate, restore
from results_examples import SWEEP, begin
from sqlalchemy import text
from stored_tables import frame

from harness.errors import HarnessError, MissingPrerequisiteError, UsageError
from harness.store.listing import list_sweeps
from harness.store.records import FILE_NAME, SweepStatus
from harness.store.schema import STORE_SCHEMA_VERSION, metadata
from harness.store.store import Store
from harness.store.versions import MIGRATIONS, revision

KINDS = ("sqlite", "postgresql")


@pytest.fixture(params=KINDS)
def empty_place(request, tmp_path):
    return tmp_path if request.param == "sqlite" else request.getfixturevalue("shared_store_url")


@pytest.fixture(params=[*(dump.stem for dump in DUMPS), "on a server"])
def old_place(request, tmp_path):
    if request.param != "on a server":
        return restore(next(dump for dump in DUMPS if dump.stem == request.param), tmp_path / "old")
    return make_old_on_server(request.getfixturevalue("postgresql"), request.getfixturevalue("shared_store_url"))


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


def test_there_are_dumps_of_every_version_before_alembic():
    assert {dump.stem for dump in DUMPS} >= {f"store-of-version-{version}" for version in range(1, 5)}


def test_a_new_store_has_the_tables_of_the_schema(empty_place):
    with Store.open(empty_place) as store:
        assert differences(store) == []
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


def test_the_scripts_alone_make_the_tables_of_the_schema(empty_place):
    migrate(empty_place, "head")
    with Store.open(empty_place) as store:
        assert differences(store) == []
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


def test_an_old_store_ends_with_the_tables_of_a_new_one(old_place):
    with Store.open(old_place) as store:
        assert differences(store) == []
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


def test_the_newest_script_is_the_version_of_the_schema():
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [revision(STORE_SCHEMA_VERSION)]


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_an_old_store_keeps_its_rows_and_takes_new_ones(dump, tmp_path):
    restore(dump, tmp_path)
    (listed,) = list_sweeps(tmp_path)
    assert (listed.id, listed.status) == (SWEEP, SweepStatus.FINISHED)
    with Store.open(tmp_path) as store:
        assert store.find_sweep("latest") == listed
        assert frame(store.invocations(SWEEP))["latency_avg_us"].tolist() == [1000.0, 1010.0, 9999.0]
        assert frame(store.invocations(SWEEP))["gate"].isna().all()
        assert frame(store.accuracies(SWEEP))["top1"].tolist() == [0.91]
        store.set_preparation(SWEEP, "R58M", {"knobs": []})
        assert frame(store.devices(SWEEP))["preparation"].tolist() == [{"knobs": []}]
        begin(store, "20261125-083000-ab12")


@pytest.mark.parametrize("kind", KINDS)
def test_of_many_that_open_an_old_store_at_once_one_changes_it(kind, tmp_path, request):
    if kind == "sqlite":
        place = restore(DUMPS[0], tmp_path)
    else:
        place = make_old_on_server(request.getfixturevalue("postgresql"), request.getfixturevalue("shared_store_url"))
    opened = open_in_processes(place, 4)
    assert opened == [0, 0, 0, 0]
    with Store.open(place) as store:
        assert tables(store) == (set(metadata.tables), [revision(STORE_SCHEMA_VERSION)])


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


def test_a_change_that_fails_leaves_the_store_as_it_was(tmp_path):
    restore(DUMPS[-1], tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TABLE logs (of_somebody_else TEXT)")
        before = list(connection.iterdump())
    with pytest.raises(HarnessError, match="table logs already exists"):
        Store.open(tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert list(connection.iterdump()) == before


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


def test_alembic_is_loaded_for_an_old_store_only(tmp_path):
    restore(DUMPS[0], tmp_path / "old")
    program = (
        "import sys\nfrom harness.store.store import Store\n"
        f"Store.open({str(tmp_path / 'new')!r}).close(); Store.open({str(tmp_path / 'new')!r}).close()\n"
        f"assert 'alembic' not in sys.modules\nStore.open({str(tmp_path / 'old')!r}).close()\n"
        "assert 'alembic' in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
