"""Old sweeps go whole or not at all, and what is being measured never does."""

import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from results_examples import START, accuracy_outcome, begin, cell, measure, sweep_record
from sqlalchemy import update
from stored_tables import frame

from harness.errors import HarnessError, UsageError
from harness.store.pruning import MARK, plan_pruning, plan_removal, prune
from harness.store.records import SweepRecord, SweepStatus
from harness.store.schema import sweeps
from harness.store.store import Store

IDS = [f"2026112{day}-083000-ab12" for day in range(5)]
"""Oldest first, one a day."""
DAY = timedelta(days=1)
NOW = START + 5 * DAY


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path) as opened:
        yield opened


def add_sweep(store, day, *, finished=True, **changes):
    record = sweep_record(IDS[day], **changes)
    begin(store, IDS[day]) if not changes else store.start_sweep(record)
    if not changes:
        measure(store, cell(), [100.0, 101.0], outcome=accuracy_outcome(), sweep_id=IDS[day])
    moment = (START + day * DAY).isoformat()
    store._execute(update(sweeps).where(sweeps.c.id == IDS[day]).values(started_at_utc=moment))
    if finished:
        store.finish_sweep(IDS[day], SweepStatus.FINISHED)


def ids(pruning):
    return [sweep.record.id for sweep in pruning.sweeps]


def left(store):
    return sorted(sweep.id for sweep in store.sweeps())


def test_the_newest_stay(store):
    for day in range(4):
        add_sweep(store, day)
    pruning = plan_pruning(store, now=NOW, keep=2)
    assert ids(pruning) == IDS[:2]
    assert [sweep.invocations for sweep in pruning.sweeps] == [3, 3]
    assert [sweep.log_files for sweep in pruning.sweeps] == [4, 4]
    assert pruning.log_bytes > 0
    assert left(store) == IDS[:4]  # a plan removes nothing
    assert len(list(prune(store, pruning))) == 2
    assert left(store) == IDS[2:4]
    assert sorted(path.name for path in store.folder.iterdir() if path.name.startswith("2026")) == IDS[2:4]


def test_only_what_is_older_goes(store):
    for day in range(4):
        add_sweep(store, day)
    assert ids(plan_pruning(store, now=NOW, older_than=3.5 * DAY)) == IDS[:2]
    assert ids(plan_pruning(store, now=NOW, older_than=3.5 * DAY, keep=3)) == IDS[:1]
    assert ids(plan_pruning(store, now=NOW, older_than=0.5 * DAY, keep=3)) == IDS[:1]


def test_without_a_limit_nothing_goes(store):
    with pytest.raises(UsageError, match="Nothing says what is old"):
        plan_pruning(store, now=NOW)


def test_sweeps_of_noise_stay_unless_they_are_named(store):
    add_sweep(store, 0, spec={"purpose": "noise"})
    add_sweep(store, 1)
    assert ids(plan_pruning(store, now=NOW, keep=0)) == IDS[1:2]
    assert ids(plan_pruning(store, now=NOW, keep=0, noise=True)) == IDS[:2]
    assert ids(plan_pruning(store, now=NOW, keep=1, noise=True)) == []


def test_no_row_of_a_removed_sweep_stays(store):
    add_sweep(store, 0)
    add_sweep(store, 1)
    list(prune(store, plan_pruning(store, now=NOW, keep=1)))
    readers = (store.devices, store.variants, store.tools, store.cells, store.invocations, store.accuracies)
    assert all(len(read(IDS[0])) == 0 for read in readers)
    assert all(len(read(IDS[1])) > 0 for read in readers)


def test_a_sweep_that_runs_stays(store, tmp_path):
    add_sweep(store, 0, finished=False)
    add_sweep(store, 1)
    with Store.open(tmp_path) as other:
        pruning = plan_pruning(other, now=NOW, keep=0)
        assert (ids(pruning), pruning.kept_running) == (IDS[1:2], IDS[:1])


def test_a_sweep_that_was_killed_goes(store, tmp_path):
    program = f"""
        import platform
        from results_examples import sweep_record
        from harness.store.store import Store
        store = Store.open({str(tmp_path)!r})
        store.start_sweep(sweep_record({IDS[0]!r}, host={{"name": platform.node()}}))
        print("begun", flush=True)
        input()
    """
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert running.stdout.readline() == "begun\n"
    assert plan_pruning(store, now=NOW, keep=0).kept_running == IDS[:1]
    running.send_signal(signal.SIGKILL)
    running.wait()
    pruning = plan_pruning(store, now=NOW, keep=0)
    assert (ids(pruning), pruning.kept_running) == (IDS[:1], [])
    list(prune(store, pruning))
    assert left(store) == []


def test_a_sweep_that_may_run_on_another_computer_stays(store):
    store.start_sweep(SweepRecord(IDS[0], START, {}, "quick", 1, host={"name": "some-other-computer"}))
    store.locks.release(IDS[0])  # nobody on this computer runs it
    assert plan_pruning(store, now=NOW, keep=0).kept_running == IDS[:1]
    store.finish_sweep(IDS[0], SweepStatus.INTERRUPTED)
    assert ids(plan_pruning(store, now=NOW, keep=0)) == IDS[:1]


def test_a_sweep_that_was_resumed_after_the_plan_stays(store, tmp_path):
    add_sweep(store, 0)
    with Store.open(tmp_path) as other:
        pruning = plan_pruning(other, now=NOW, keep=0)
        store.resume_sweep(IDS[0])
        assert list(prune(other, pruning)) == []
        assert left(store) == IDS[:1]


def test_one_sweep_is_run_by_one_process(store, tmp_path):
    add_sweep(store, 0, finished=False)
    with Store.open(tmp_path) as other, pytest.raises(UsageError, match="in use by another harness"):
        other.resume_sweep(IDS[0])
    store.finish_sweep(IDS[0], SweepStatus.INTERRUPTED)
    with Store.open(tmp_path) as other:
        other.resume_sweep(IDS[0])


def test_no_lock_is_left_behind(store):
    add_sweep(store, 0)
    assert store.locks.is_free(IDS[0])
    assert list((store.folder / ".locks").iterdir()) == []


def test_without_a_lock_nothing_starts_and_nothing_goes(store):
    add_sweep(store, 0)
    store.locks._path(IDS[0]).mkdir(parents=True)  # a folder is nothing to lock
    with pytest.raises(UsageError, match=f"The lock of sweep {IDS[0]}"):
        store.resume_sweep(IDS[0])
    assert plan_pruning(store, now=NOW, keep=0).kept_running == IDS[:1]


class KilledError(BaseException):
    pass


def test_killed_before_the_rows_go_nothing_is_lost(store, monkeypatch):
    add_sweep(store, 0)
    pruning = plan_pruning(store, now=NOW, keep=0)

    def killed(_):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(store, "remove_sweep", killed)
        list(prune(store, pruning))
    assert left(store) == IDS[:1]
    assert plan_pruning(store, now=NOW, keep=1).leftovers == []
    assert all((store.folder / path).exists() for path in frame(store.invocations(IDS[0]))["log_path"])


def test_killed_before_the_folder_goes_the_next_prune_removes_it(store, monkeypatch):
    add_sweep(store, 0)

    def killed(_):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("harness.store.pruning._remove", killed)
        list(prune(store, plan_pruning(store, now=NOW, keep=0)))
    assert left(store) == []
    pruning = plan_pruning(store, now=NOW, keep=0)
    assert pruning.leftovers == [store.folder / IDS[0]]
    list(prune(store, pruning))
    assert not (store.folder / IDS[0]).exists()


def test_folders_that_no_prune_marked_are_never_touched(store):
    (store.folder / "20200101-000000-ab12").mkdir()
    (store.folder / "mine").mkdir()
    list(prune(store, plan_pruning(store, now=NOW, keep=0)))
    assert (store.folder / "mine").exists()
    assert (store.folder / "20200101-000000-ab12").exists()


def test_what_a_folder_links_to_is_not_followed(store, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("x")
    add_sweep(store, 0)
    (store.folder / IDS[0] / "link").symlink_to(elsewhere)
    list(prune(store, plan_pruning(store, now=NOW, keep=0)))
    assert (elsewhere / "precious").exists()
    assert not (store.folder / IDS[0]).exists()


def test_a_folder_that_cannot_be_removed_is_told(store, monkeypatch):
    add_sweep(store, 0)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(HarnessError, match="cannot be removed: Permission denied"):
        list(prune(store, plan_pruning(store, now=NOW, keep=0)))
    assert (store.folder / IDS[0] / MARK).exists()


def prune_cli(harness_cli, tmp_path, *arguments):
    return harness_cli("results", "prune", "--results", str(tmp_path), *arguments)


def test_the_command_says_what_goes_and_asks(store, harness_cli, tmp_path):
    for day in range(3):
        add_sweep(store, day)
    dry = prune_cli(harness_cli, tmp_path, "--keep", "1", "--dry-run")
    assert dry.returncode == 0
    assert all(identity in dry.stdout for identity in IDS[:2])
    assert IDS[2] not in dry.stdout
    assert "2 sweeps to remove: 6 processes of the tool, " in dry.stderr
    assert "Nothing was removed." in dry.stderr
    assert left(store) == IDS[:3]
    unasked = prune_cli(harness_cli, tmp_path, "--keep", "1")
    assert (unasked.returncode, left(store)) == (2, IDS[:3])
    assert "--yes" in unasked.stderr
    done = prune_cli(harness_cli, tmp_path, "--keep", "1", "--yes")
    assert (done.returncode, left(store)) == (0, IDS[2:3])
    assert "Removed: 2 sweeps." in done.stderr
    assert "0 sweeps to remove" in prune_cli(harness_cli, tmp_path, "--older-than", "900d").stderr


def test_the_command_removes_what_a_killed_prune_left(store, harness_cli, tmp_path):
    (store.folder / IDS[0]).mkdir()
    (store.folder / IDS[0] / MARK).touch()
    done = prune_cli(harness_cli, tmp_path, "--keep", "1", "--yes")
    assert f"Left over by a prune that was killed: {store.folder / IDS[0]}" in done.stderr
    assert not (store.folder / IDS[0]).exists()


@pytest.mark.parametrize("arguments", [[], ["--older-than", "yesterday"], ["--keep", "-1"], ["--keep", "1", "--json"]])
def test_bad_limits_are_bad_usage(store, harness_cli, tmp_path, arguments):
    assert prune_cli(harness_cli, tmp_path, *arguments).returncode == 2


def test_a_sweep_is_removed_by_its_name(store):
    for day in range(2):
        add_sweep(store, day)
    pruning = plan_removal(store, [IDS[0], IDS[0][:12]])
    assert ids(pruning) == [IDS[0]]
    assert [sweep.record.id for sweep in prune(store, pruning)] == [IDS[0]]
    assert left(store) == [IDS[1]]


def test_a_running_sweep_is_not_removed(store):
    add_sweep(store, 0, finished=False)
    with pytest.raises(UsageError, match="is in use by another harness"):
        plan_removal(store, [IDS[0]])


def test_what_lies_behind_a_link_stays(store, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for day in range(2):
        add_sweep(store, day)
    folder = store.folder / IDS[0]
    folder.rename(elsewhere)
    (elsewhere / "foreign").write_text("keep")
    folder.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    assert len(list(prune(store, plan_pruning(store, now=NOW, keep=0)))) == 2
    assert left(store) == []
    assert not folder.is_symlink()
    assert sorted(elsewhere.rglob("*")) == before
