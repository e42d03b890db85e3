"""Processes that write at once, into sweeps of their own and into one cell: nothing is lost, no number collides."""

import os
import subprocess
import sys
import textwrap

import pytest
from results_examples import SWEEP, begin, cell
from stored_tables import frame

from harness.store.store import Store

PROCESSES, EACH = 4, 15

PROGRAM = """
    import sys
    from results_examples import *
    from harness.store.store import Store
    place, own, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Store.open(place) as store:
        begin(store, own)
        print("ready", flush=True)
        input()
        store.add_device(SWEEP, facts(), "generic", ())
        store.add_cell(SWEEP, cell())
        store.add_cell(SWEEP, cell("met"))
        store.add_cell(own, cell())
        for index in range(count):
            add(store, cell(), 0, succeeded(float(index)))
            add(store, cell(), index, succeeded(float(index)), sweep_id=own)
        store.add_accuracy(SWEEP, cell().key, accuracy_outcome())
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_write_into_their_own_sweeps_and_into_the_same_cell(kind, tmp_path, request):
    place = tmp_path / "results" if kind == "sqlite" else request.getfixturevalue("shared_store_url")
    with Store.open(place) as store:
        begin(store)
        store.add_cell(SWEEP, cell())
    own = [f"2026112{day}-083000-ab12" for day in range(5, 5 + PROCESSES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(place), sweep_id, str(EACH)],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for sweep_id in own
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0] * PROCESSES
    for process in processes:
        process.stdin.close()
        process.stdout.close()
    with Store.open(place) as store:
        shared = frame(store.invocations(SWEEP))
        assert sorted(shared["attempt"]) == list(range(1, PROCESSES * EACH + 1))
        assert sorted(shared["latency_avg_us"]) == sorted([float(index) for index in range(EACH)] * PROCESSES)
        assert {store.logs.read(path) for path in shared["log_path"]} == {"the log"}
        assert shared["log_path"].nunique() == PROCESSES * EACH
        assert sorted(frame(store.accuracies(SWEEP))["attempt"]) == list(range(1, PROCESSES + 1))
        assert sorted(frame(store.cells(SWEEP))["variant_name"]) == ["int8", "met"]
        for sweep_id in own:
            assert frame(store.invocations(sweep_id))["invocation_index"].tolist() == list(range(EACH))
