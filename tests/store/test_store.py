"""The store: nothing that is finished is lost, whatever dies."""

import dataclasses
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from results_examples import (
    SWEEP,
    accuracy_outcome,
    add,
    begin,
    card,
    cell,
    facts,
    failed,
    measure,
    succeeded,
    sweep_record,
    tool,
)
from stored_tables import frame

import harness
from harness.benchmark.invocation import Pass
from harness.errors import Failure, FailureClass, HarnessError, MissingPrerequisiteError, UsageError
from harness.spec.sweep import load_sweep_spec
from harness.store.records import SweepStatus, new_sweep_id
from harness.store.sqlite import _switch_to_wal
from harness.store.store import Store
from harness.sweep.runner import begin_sweep


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    place = tmp_path if request.param == "sqlite" else request.getfixturevalue("shared_store_url")
    with Store.open(place) as opened:
        yield opened


def test_promise_h19_what_goes_in_comes_out(store):
    begin(store)
    measure(store, cell(), [100.0, 101.0], outcome=accuracy_outcome())
    invocations = frame(store.invocations(SWEEP))
    latency = invocations[invocations.purpose == "latency"]
    assert list(latency.latency_avg_us) == [100.0, 101.0]
    assert list(invocations.failure_class.isna()) == [True] * 3
    assert store.logs.read(latency.log_path.iloc[0]) == "the log"
    assert store.logs.read(frame(store.accuracies(SWEEP)).log_path.iloc[0]) == "accuracy log"
    assert len(frame(store.accuracies(SWEEP))) == 1
    assert store.find_sweep("latest").id == SWEEP
    assert store.find_sweep("20261124").spec["model"] == "fashion-dscnn"


def test_promise_h19_every_row_leads_to_all_that_made_its_number(store):
    told = dataclasses.replace(
        facts(), fingerprint="google/shiba/shiba:14", soc="Tensor G3", gpu="Mali-G715", android_version="14"
    )
    store.start_sweep(sweep_record(host={"name": "lab", "cores": 8}))
    store.add_device(SWEEP, told, "generic", ())
    store.add_variant(SWEEP, card())
    store.add_tool(SWEEP, tool())
    measure(store, cell(), [100.0])
    row = frame(store.invocations(SWEEP)).to_dict("records")[0]
    assert row["command"] == list(succeeded().command) != []
    sweep = store.find_sweep(row["sweep_id"])
    assert (sweep.host["name"], sweep.harness_version) == ("lab", harness.__version__)
    assert sweep.spec == sweep_record().spec
    (of_cell,) = frame(store.cells(SWEEP)).to_dict("records")
    assert of_cell["key"] == row["cell_key"]
    devices, variants, tools = (
        {found[name]: found for found in frame.to_dict("records")}
        for name, frame in (
            ("serial", frame(store.devices(SWEEP))),
            ("name", frame(store.variants(SWEEP))),
            ("sha256", frame(store.tools(SWEEP))),
        )
    )
    assert devices[of_cell["serial"]]["facts"] == json.loads(json.dumps(dataclasses.asdict(told)))
    assert variants[of_cell["variant_name"]]["card"] == card().model_dump(mode="json")
    assert tools[of_cell["tool_sha256"]]["facts"] == tool().model_dump(mode="json")


def test_promise_h19_a_sweep_tells_which_computer_drove_it_and_all_that_was_asked(store):
    spec = load_sweep_spec(None, {"threads": [2]})
    begin_sweep(store, spec)
    begun = store.find_sweep("latest", measured=False)
    assert (begun.host["name"], begun.host["platform"]) == (platform.node(), platform.platform())
    assert (begun.spec, begun.seed) == (spec.model_dump(mode="json"), spec.seed)


@pytest.mark.parametrize("failure_class", FailureClass)
def test_promise_h20_every_class_comes_out_with_its_sentence_and_its_evidence(store, failure_class):
    begin(store)
    store.add_cell(SWEEP, cell())
    add(store, cell(), 0, failed(Failure(failure_class, "What happened.", "what proves it")))
    (row,) = frame(store.invocations(SWEEP)).to_dict("records")
    told = FailureClass(row["failure_class"]), row["failure_message"], row["failure_evidence"]
    assert told == (failure_class, "What happened.", "what proves it")


def test_every_attempt_is_kept_and_the_last_decides(store):
    begin(store)
    store.add_cell(SWEEP, cell())
    add(store, cell(), 0, failed(Failure(FailureClass.DEVICE_LOST, "Gone.", "x")))
    assert store.done(SWEEP) == set()  # a lost phone says nothing of the cell
    add(store, cell(), 0, succeeded())
    assert store.done(SWEEP) == {(cell().key, Pass.LATENCY, 0)}
    assert list(frame(store.invocations(SWEEP)).attempt) == [1, 2]


def test_a_failure_of_the_cell_itself_is_done(store):
    begin(store)
    store.add_cell(SWEEP, cell())
    add(store, cell(), 0, failed(Failure(FailureClass.UNSUPPORTED_OP, "No such operator.", "x")))
    assert store.done(SWEEP) == {(cell().key, Pass.LATENCY, 0)}


def test_a_failed_device_keeps_its_facts(store):
    begin(store)
    store.add_device_failure(SWEEP, "R58M", Failure(FailureClass.DEVICE_LOST, "Gone."))
    (row,) = frame(store.devices(SWEEP)).to_dict("records")
    assert (row["title"], row["failure_class"]) == ("Google Pixel 8", "device_lost")


def test_status_follows_the_sweep(store):
    store.start_sweep(sweep_record())
    assert store.find_sweep(SWEEP).status is SweepStatus.RUNNING
    store.finish_sweep(SWEEP, SweepStatus.INTERRUPTED)
    assert store.find_sweep(SWEEP).status is SweepStatus.INTERRUPTED
    store.resume_sweep(SWEEP)
    assert store.find_sweep(SWEEP).finished_at is None


def test_ids_sort_by_time_and_do_not_collide():
    ids = {new_sweep_id(sweep_record().started_at) for _ in range(50)}
    assert len(ids) > 45
    assert all(identity.startswith("20261124-083000-") for identity in ids)


def test_promise_h22_the_key_of_a_cell_changes_with_everything_that_makes_it_another():
    base = cell()
    for field in dataclasses.fields(base):
        value = {"x": 1} if field.name == "mode" else 7 if field.name == "threads" else "other"
        assert dataclasses.replace(base, **{field.name: value}).key != base.key, field.name


def test_several_threads_write_at_once(store):
    begin(store, devices=[facts(f"S{n}") for n in range(4)])

    def one_device(serial):
        measure(store, cell(serial=serial), [1.0] * 25, outcome=accuracy_outcome())

    threads = [threading.Thread(target=one_device, args=(f"S{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frame(store.invocations(SWEEP))) == 4 * 26


def test_promise_h21_kill_9_keeps_every_finished_invocation(tmp_path):
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
        from pathlib import Path
        from results_examples import *
        from harness.store.store import Store
        store = Store.open(Path({str(tmp_path)!r}))
        begin(store)
        store.add_cell(SWEEP, cell())
        for index in range(10_000):
            add(store, cell(), index, succeeded())
            print(index, flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as writer:
        finished = -1
        for line in writer.stdout:
            finished = int(line)
            if finished >= 20:
                os.kill(writer.pid, signal.SIGKILL)
                break
    with Store.open(tmp_path) as store:
        invocations = frame(store.invocations(SWEEP))
        assert len(invocations) >= finished + 1
        for path in invocations.log_path:
            assert (store.folder / path).stat().st_size > 0


def test_places_that_are_no_store(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="There are no results"):
        Store.open(tmp_path / "nosuch", must_exist=True)
    (tmp_path / "results.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(HarnessError):
        Store.open(tmp_path).sweeps()


def test_a_newer_store_is_not_touched(tmp_path):
    with Store.open(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "results.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(UsageError, match="schema version 999"):
        Store.open(tmp_path)


def test_an_unknown_sweep_and_an_unclear_one(store):
    with pytest.raises(MissingPrerequisiteError, match="There are no sweeps"):
        store.find_sweep("latest")
    store.start_sweep(sweep_record("20261124-083000-aaaa"))
    store.start_sweep(sweep_record("20261124-083000-bbbb"))
    with pytest.raises(UsageError):
        store.find_sweep("20261124")
    assert store.find_sweep("20261124-083000-b").id.endswith("bbbb")


def test_promise_h19_tools_and_variants_are_stored_once(store):
    begin(store)
    store.add_tool(SWEEP, tool())
    store.add_variant(SWEEP, card())
    assert len(frame(store.tools(SWEEP))) == len(frame(store.variants(SWEEP))) == 1


class LockedAtFirst:
    """A connection whose first switch to WAL collides with another one's: SQLite then fails without waiting."""

    def __init__(self, failures):
        self.failures = failures

    def execute(self, _statement):
        if self.failures:
            raise self.failures.pop(0)


def test_a_switch_to_wal_that_collides_is_retried():
    connection = LockedAtFirst([sqlite3.OperationalError("database is locked")] * 2)
    _switch_to_wal(connection)
    assert connection.failures == []


def test_a_switch_to_wal_that_cannot_work_fails_at_once():
    connection = LockedAtFirst([sqlite3.OperationalError("attempt to write a readonly database")] * 2)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        _switch_to_wal(connection)
    assert len(connection.failures) == 1


def test_a_removed_results_file_is_said(tmp_path):
    with Store.open(tmp_path / "results") as store:
        begin(store)
        shutil.rmtree(tmp_path / "results")
        with pytest.raises(HarnessError, match="was removed or replaced while it was in use"):
            store.finish_sweep(SWEEP, SweepStatus.FINISHED)
        with Store.open(tmp_path / "results"), pytest.raises(HarnessError, match="was removed or replaced"):
            store.sweeps()
