"""A server that restarts, is killed or cut off in mid-sweep: everything is stored, and stored once."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest
from results_examples import SWEEP, accuracy_outcome, add, begin, cell, succeeded, sweep_record
from sqlalchemy import event
from stored_tables import frame

from harness.errors import HarnessError, UsageError
from harness.store import postgresql
from harness.store.pruning import plan_pruning
from harness.store.records import SweepStatus
from harness.store.store import Store


@pytest.fixture
def store(shared_store_url):
    with Store.open(shared_store_url) as opened:
        begin(opened)
        opened.add_cell(SWEEP, cell())
        yield opened


def attempts(store):
    rows = frame(store.invocations(SWEEP))
    return sorted(zip(rows["invocation_index"], rows["attempt"], strict=True))


class Writer(threading.Thread):
    """Stores one invocation after the other until it is told to stop."""

    def __init__(self, store, first):
        super().__init__()
        self.store, self.first, self.count, self.ended, self.error = store, first, 0, threading.Event(), None

    def run(self):
        try:
            while not self.ended.is_set():
                add(self.store, cell(), self.first + self.count, succeeded())
                self.count += 1
        except HarnessError as error:
            self.error = error

    def wait_for(self, more):
        until = self.count + more
        while self.count < until and self.is_alive():
            time.sleep(0.01)


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_writers_survive_a_server_that_goes_and_comes_back(store, postgresql, how):
    store.tell = (told := []).append
    writers = [Writer(store, 10_000 * index) for index in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        for writer in writers:
            writer.wait_for(3)
        getattr(postgresql, how)()
        if how == "kill":
            postgresql.start()
    for writer in writers:
        writer.wait_for(3)
        writer.ended.set()
    for writer in writers:
        writer.join()
    assert [writer.error for writer in writers] == [None] * 4
    assert attempts(store) == [(writer.first + index, 1) for writer in writers for index in range(writer.count)]
    assert store.logs.size(SWEEP).files == sum(writer.count for writer in writers)
    away, back = told[::2], told[1::2]
    assert len(away) == len(back) >= 3
    assert all("does not answer; it is waited for" in sentence for sentence in away)
    assert all(sentence.endswith("answers again.") for sentence in back)
    store.finish_sweep(SWEEP, SweepStatus.FINISHED)


def lose_connection_at_commit(store, monkeypatch, *, before=None, after=None):
    """Let the next commit fail as if the network had gone; `before` and `after` the commit itself something is done."""
    dialect = store._engine.dialect
    commit = dialect.do_commit
    lost = []

    def do_commit(connection):
        if lost:
            return commit(connection)
        lost.append(connection)
        if before:
            before(connection)
        else:
            commit(connection)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", do_commit)
    return lost


def test_what_was_committed_when_the_connection_was_lost_is_not_stored_again(store, monkeypatch):
    lost = lose_connection_at_commit(store, monkeypatch)
    add(store, cell(), 0, succeeded())
    store.add_accuracy(SWEEP, cell().key, accuracy_outcome())
    assert len(lost) == 1
    assert attempts(store) == [(0, 1)]
    assert list(frame(store.accuracies(SWEEP))["attempt"]) == [1]


def test_a_sweep_whose_start_was_committed_when_the_connection_was_lost_has_started(store, monkeypatch):
    lost = lose_connection_at_commit(store, monkeypatch)
    store.start_sweep(sweep_record("20261125-083000-ab12"))
    assert len(lost) == 1
    assert [sweep.id for sweep in store.sweeps()] == ["20261125-083000-ab12", SWEEP]


def test_what_was_not_committed_when_the_connection_was_lost_is_stored_again(store, monkeypatch):
    lost = lose_connection_at_commit(store, monkeypatch, before=lambda _connection: None)
    add(store, cell(), 0, succeeded())
    assert len(lost) == 1
    assert attempts(store) == [(0, 1)]


def test_what_a_dead_connection_holds_on_the_server_is_taken_from_it(store, monkeypatch):
    """The cable is cut: the server does not know, and its half of the connection holds locks."""
    kept = []

    def cut(connection):
        kept.append(os.dup(connection.fileno()))  # the server's half goes on
        with socket.socket() as nowhere:
            os.dup2(nowhere.fileno(), connection.fileno())

    lost = lose_connection_at_commit(store, monkeypatch, before=cut)
    add(store, cell(), 0, succeeded())
    add(store, cell(), 0, succeeded())
    os.close(kept[0])
    assert len(lost) == 1
    assert attempts(store) == [(0, 1), (0, 2)]


def test_a_server_that_stays_away_ends_the_sweep_which_is_resumed(store, postgresql, monkeypatch, shared_store_url):
    add(store, cell(), 0, succeeded())
    monkeypatch.setattr(store._transactions, "_longest_outage_s", 1.0)
    postgresql.stop()
    try:
        with pytest.raises(HarnessError, match=r"does not answer|was lost") as caught:
            add(store, cell(), 1, succeeded())
        with pytest.raises(HarnessError, match=r"does not answer|was lost"):
            frame(store.invocations(SWEEP))
    finally:
        postgresql.start()
    assert caught.value.advice
    store.close()
    with Store.open(shared_store_url) as later:
        later.resume_sweep(SWEEP)
        add(later, cell(), 1, succeeded())
        assert attempts(later) == [(0, 1), (1, 1)]


def test_readers_wait_too(store, postgresql):
    add(store, cell(), 0, succeeded())
    postgresql.restart()
    assert attempts(store) == [(0, 1)]


def test_a_sweep_is_held_against_other_hosts(store, shared_store_url):
    with Store.open(shared_store_url) as other:
        assert not other.locks.is_free(SWEEP)
        assert other.locks.is_free("another")
        with pytest.raises(UsageError, match="in use by another harness"):
            other.resume_sweep(SWEEP)
        assert not store.locks.is_free(SWEEP)
        store.finish_sweep(SWEEP, SweepStatus.INTERRUPTED)
        assert other.locks.is_free(SWEEP)
        other.resume_sweep(SWEEP)
        with pytest.raises(UsageError, match="in use by another harness"):
            store.resume_sweep(SWEEP)


def test_the_sweep_of_a_killed_process_is_free(store, shared_store_url):
    program = f"""
        from results_examples import begin
        from harness.store.store import Store
        begin(Store.open({shared_store_url!r}), "20261125-083000-ab12")
        print("begun", flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as running:
        assert running.stdout.readline() == "begun\n"
        now = datetime(2027, 1, 1, tzinfo=UTC)
        assert plan_pruning(store, now=now, keep=0).kept_running == [SWEEP, "20261125-083000-ab12"]
        running.kill()
    until = time.monotonic() + 60
    while not store.locks.is_free("20261125-083000-ab12") and time.monotonic() < until:
        time.sleep(0.05)
    store.finish_sweep(SWEEP, SweepStatus.INTERRUPTED)
    assert plan_pruning(store, now=now, keep=0).kept_running == []  # though "lab" never said that it has ended
    store.resume_sweep("20261125-083000-ab12")


def test_a_sweep_is_held_again_after_the_server_was_away(store, postgresql, shared_store_url):
    postgresql.restart()
    add(store, cell(), 0, succeeded())
    with Store.open(shared_store_url) as other, pytest.raises(UsageError, match="in use by another harness"):
        other.resume_sweep(SWEEP)


def test_a_sweep_that_was_taken_over_while_the_server_was_away_is_left_to_the_other(
    store, postgresql, shared_store_url, monkeypatch
):
    monkeypatch.setattr("harness.store.postgresql._RENEWAL_LIMIT_S", 0.5)
    postgresql.restart()
    with Store.open(shared_store_url) as other:
        other.resume_sweep(SWEEP)
        with pytest.raises(UsageError, match="another harness took sweep"):
            add(store, cell(), 0, succeeded())


def test_the_lock_of_a_dead_connection_is_taken_from_it(store):
    """The cable is cut between two invocations, also of the connection that holds the sweep."""
    kept = []
    for connection in (store.locks._connection.connection.dbapi_connection,):
        kept.append(os.dup(connection.fileno()))
        with socket.socket() as nowhere:
            os.dup2(nowhere.fileno(), connection.fileno())
    store.locks.renew()
    assert not store.locks.is_free(SWEEP)
    assert store.locks._answers()
    os.close(kept[0])


def test_writers_that_meet_are_both_stored(store, shared_store_url):
    """Two hosts store the same device at once: the second one's transaction fails, and is made again."""
    with Store.open(shared_store_url) as other:
        met = []

        def meet(_connection, _cursor, statement, *_):
            if statement.startswith("INSERT INTO cells") and not met:
                met.append(statement)
                other.add_cell(SWEEP, cell("other"))

        event.listen(store._engine, "before_cursor_execute", meet)
        store.add_cell(SWEEP, cell("other"))
    assert len(met) == 1
    assert frame(store.cells(SWEEP))["variant_name"].tolist().count("other") == 1


def test_a_conflict_that_never_ends_is_told(store, monkeypatch):
    monkeypatch.setattr(postgresql, "_CONFLICT_PAUSE_S", 0.0)
    with pytest.raises(HarnessError, match="duplicate key"):
        begin(store)  # the id is taken
