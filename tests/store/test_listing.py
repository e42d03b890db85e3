"""The list of sweeps is read without SQLAlchemy, and says what the store says."""

import sqlite3
import subprocess
import sys

import pytest
from results_examples import START, accuracy_outcome, add, begin, cell, failed, measure, sweep_record

from harness.analysis.summary import summarize
from harness.cli.commands.results import SHOWN
from harness.errors import Failure, FailureClass, UsageError
from harness.store import listing, schema
from harness.store.listing import SweepState, list_sweeps
from harness.store.records import FILE_NAME, SweepStatus
from harness.store.store import Store
from harness.store.versions import revision

IDS = [f"202611{day:02}-083000-ab12" for day in range(1, SHOWN + 3)]


@pytest.fixture
def folder(tmp_path):
    with Store.open(tmp_path) as store:
        for identity in IDS:
            store.start_sweep(sweep_record(identity, spec={"model": "modèle [bold]"}))
        store.finish_sweep(IDS[0], SweepStatus.INTERRUPTED, START)
    return tmp_path


def test_it_says_what_the_store_says(folder):
    with Store.open(folder) as store:
        assert [sweep.record for sweep in list_sweeps(folder)] == store.sweeps()


def test_it_reads_the_version_that_the_store_writes():
    assert revision(schema.STORE_SCHEMA_VERSION) == listing.VERSION, (
        "raise it where the table of sweeps has not changed"
    )
    assert set(listing._COLUMNS) == {column.name for column in schema.sweeps.columns}


def test_where_nothing_was_stored_there_is_nothing(tmp_path):
    assert list_sweeps(tmp_path / "nosuch") == []
    assert not (tmp_path / "nosuch").exists()


def test_a_newer_store_is_refused(folder):
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(UsageError, match="schema version 99"):
        list_sweeps(folder)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(UsageError, match="is not a results store"):
        list_sweeps(tmp_path)


def test_a_sweep_under_way_is_listed_at_once(tmp_path):
    with Store.open(tmp_path) as store:
        begin(store)
        assert [sweep.state for sweep in list_sweeps(tmp_path)] == [SweepState.RUNNING]


def test_the_command_loads_nothing_heavy(folder):
    program = (
        "import sys\nfrom harness.cli.main import app\n"
        f"app(['results', 'list', '--results', {str(folder)!r}], standalone_mode=False)\n"
        "print([name for name in ('sqlalchemy', 'numpy', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr.splitlines()[-1] == "[]"


def test_the_newest_are_shown_first_and_all_on_demand(harness_cli, folder):
    shown = harness_cli("results", "list", "--results", str(folder))
    assert [line.split()[0] for line in shown.stdout.splitlines() if "-ab12" in line] == IDS[:1:-1]
    assert "modèle [bold]" in shown.stdout
    assert "2 older sweeps: --all" in shown.stderr
    everything = harness_cli("results", "list", "--all", "--results", str(folder))
    assert everything.stdout.count("-ab12") == len(IDS)
    assert "older" not in everything.stderr


def test_a_state_is_what_really_happened(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "lab")  # another computer's sweep may still run
    failure = Failure(FailureClass.CRASHED, "The tool was killed.", "signal 11")
    with Store.open(tmp_path) as store:
        for identity in ("finished", "all-failed", "nothing", "killed", "broken-outputs"):
            begin(store, identity)
        measure(store, cell(), [100.0] * 5, outcome=accuracy_outcome(), sweep_id="finished")
        measure(store, cell(), [100.0] * 5, outcome=accuracy_outcome(passed=False), sweep_id="broken-outputs")
        store.add_cell("all-failed", cell())
        add(store, cell(), 0, failed(failure), sweep_id="all-failed")
        store.add_device_failure("nothing", "R58M", failure)
        store.add_variant_failure("nothing", "int8", failure)
        for identity in ("finished", "all-failed", "nothing", "broken-outputs"):
            store.finish_sweep(identity, SweepStatus.FINISHED)
        rows = {record.id: summarize(store, record.id) for record in store.sweeps()}
        assert store.find_sweep("latest").id == "finished"
        assert store.find_sweep("latest", measured=False).id == "nothing"
    listed = {sweep.record.id: sweep for sweep in list_sweeps(tmp_path)}
    assert {identity: sweep.state.value for identity, sweep in listed.items()} == {
        "finished": "finished",
        "all-failed": "all failed",
        "nothing": "nothing measured",
        "killed": "killed",
        "broken-outputs": "all failed",
    }
    for identity, sweep in listed.items():
        shown = [row for row in rows[identity] if row.failure_class is not None]
        assert (sweep.rows, sweep.failed) == (len(rows[identity]), len(shown)), identity
    assert listed["finished"].devices == ("Google Pixel 8",)
