"""Two virtual phones in one sweep: the one that blocks until the test lets it go keeps the sweep running."""

import subprocess
import threading
import time
from collections import Counter

import pytest
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep

from harness.devices.lease import lease

pytestmark = pytest.mark.virtual_phone
WAIT_FOR_GO = "while [ ! -e /data/go ]; do sleep 0.1; done"
LIMIT_S = 90


def let_go(phone):
    phone.processes.inside("data/go").touch()


def until(condition):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def running(sweep, *serials, **options):
    """Run a sweep beside the test."""
    thread = threading.Thread(target=sweep.run_as_the_program_does, args=serials, kwargs=options)
    thread.start()
    return thread


def good(sweep):
    """Count the good processes by serial."""
    serials = {cell["key"]: cell["serial"] for cell in sweep.cells}
    return Counter(serials[row["cell_key"]] for row in sweep.invocations if row["failure_class"] is None)


@pytest.fixture
def sweep(tmp_path):
    return ScriptedSweep(tmp_path, WAIT_FOR_GO, prepare=False, reconnect_wait_s=0.5)


def test_what_a_lost_phone_left_is_taken_up_again(start_phone, sweep):
    lost, steady = start_phone(), start_phone(like="galaxy-s9-us")
    add = sweep.store.add_invocation

    def add_and_pull_the_plug(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        if finished.index == 1 and not lost_once.is_set() and good(sweep)[lost.serial] == 2:
            lost_once.set()
            lost.faults.switch_off()

    lost_once = threading.Event()
    sweep.store.add_invocation = add_and_pull_the_plug
    let_go(lost)
    working = running(sweep, lost.serial, steady.serial)
    until(lost_once.is_set)
    until(lambda: any(device["failure_class"] for device in devices(sweep)))
    lost.faults.switch_on()
    until(lambda: good(sweep)[lost.serial] == 5)
    let_go(steady)
    working.join(LIMIT_S)
    assert good(sweep) == {lost.serial: 5, steady.serial: 5}
    assert f"{lost.serial} is back: resuming its remaining cells." in sweep.notebook.notes
    assert {device["failure_class"] for device in devices(sweep)} == {None}


def test_a_phone_that_is_attached_meanwhile_joins_under_one_name_and_one_that_is_leased_does_not(
    start_phone, sweep, adb
):
    steady, leased = start_phone(), start_phone(like="nexus6p")
    with lease(leased.serial):
        working = running(sweep, steady.serial, takes_new=True)
        until(lambda: sweep.cells)
        twin = steady.serial.replace("127.0.0.1", "localhost")
        subprocess.run([adb, "connect", twin], check=True, capture_output=True, timeout=20)
        new = start_phone(like="galaxy-s9-us")
        let_go(new)
        until(lambda: good(sweep)[new.serial] == 5)
        let_go(steady)
        working.join(LIMIT_S)
    subprocess.run([adb, "disconnect", twin], check=True, capture_output=True, timeout=20)
    assert good(sweep) == {steady.serial: 5, new.serial: 5}
    assert [note for note in sweep.notebook.notes if new.serial in note] == [
        f"{new.serial} connected: adding it to the sweep."
    ]


def devices(sweep):
    return [vars(row) for row in sweep.store.devices(SWEEP)]
