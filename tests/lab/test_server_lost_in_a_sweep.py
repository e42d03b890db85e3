"""The adb server of two phones that are measured dies or hangs: both are measured to the end."""

import os
import signal
import socket
from collections import Counter

import psutil
import pytest
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep
from stored_tables import frame

from harness.devices.adb import server

pytestmark = pytest.mark.virtual_phone


@pytest.fixture
def own_server(monkeypatch):
    """A server that no other test uses; what is connected to it is connected by this test."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 2.0)
    yield port
    for process in listening(port):
        process.kill()


def listening(port):
    return [
        psutil.Process(one.pid)
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid
    ]


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_both_phones_are_measured_to_the_end(own_server, start_phone, tmp_path, fault):
    phones = [start_phone(), start_phone(like="galaxy-s9-us")]
    sweep = ScriptedSweep(tmp_path, "sleep 1", {"timeout_s": 10}, prepare=False, reconnect_wait_s=180)
    add, faulted = sweep.store.add_invocation, []

    def add_and_end_the_server(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        if finished.index == 1 and not faulted:
            faulted.append(fault)
            (process,) = listening(own_server)
            os.kill(process.pid, fault)

    sweep.store.add_invocation = add_and_end_the_server
    sweep.run_as_the_program_does(*[phone.serial for phone in phones])
    good = {(row["cell_key"], row["invocation_index"]) for row in sweep.invocations if row["failure_class"] is None}
    assert Counter(key for key, _ in good) == {cell["key"]: 5 for cell in sweep.cells}
    assert len(sweep.cells) == 2
    assert frame(sweep.store.devices(SWEEP))["failure_class"].isna().all()
    assert {row["failure_class"] for row in sweep.invocations} <= {None, "device_lost", "device_offline"}
    if fault is signal.SIGSTOP:
        assert any(note.endswith("it was ended and started again.") for note in sweep.notebook.notes)
