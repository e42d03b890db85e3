"""Sweeps into a PostgreSQL store: one that outlives its server's death, one that is resumed, and two nights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
from stored_tables import frame

from harness.store.records import SweepStatus
from harness.store.store import Store

MODEL = Path(__file__).parents[1] / "benchmark" / "data" / "pooled-float.tflite"


@pytest.fixture
def bench(tmp_path, shared_store_url):
    """Start a sweep of one file on this host; whatever is left of it is killed."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments, "--results", shared_store_url, "--plain"],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for_invocations(store, count, process):
    while sum(store.count_invocations().values()) < count:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


def places(store, sweep_id):
    rows = frame(store.invocations(sweep_id))
    return list(zip(rows["purpose"], rows["invocation_index"], rows["attempt"], strict=True))


def test_a_sweep_outlives_the_death_of_its_server(bench, postgresql, shared_store_url):
    with Store.open(shared_store_url) as store:
        process = bench("bench", str(MODEL), "--device", "host")
        wait_for_invocations(store, 3, process)
        postgresql.kill()
        time.sleep(1)
        postgresql.start()
        said, _ = process.communicate()
        assert process.returncode == 0, said
        assert "does not answer; it is waited for" in said
        record = store.find_sweep("latest")
        assert record.status is SweepStatus.FINISHED
        assert len(places(store, record.id)) == len(set(places(store, record.id)))
        assert [attempt for purpose, _, attempt in places(store, record.id) if purpose == "latency"] == [1] * 5


def test_a_killed_sweep_is_resumed_in_its_store(bench, shared_store_url):
    with Store.open(shared_store_url) as store:
        process = bench("bench", str(MODEL), "--device", "host")
        wait_for_invocations(store, 4, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        record = store.find_sweep("latest")
        done = places(store, record.id)
        while not store.locks.is_free(record.id):
            time.sleep(0.05)
        resumed = bench("sweep", "--resume", record.id)
        said, _ = resumed.communicate()
        assert resumed.returncode == 0, said
        assert places(store, record.id)[: len(done)] == done
        assert [attempt for purpose, _, attempt in places(store, record.id) if purpose == "latency"] == [1] * 5


def test_nights_are_compared_in_a_shared_store(harness_cli, shared_store_url, tmp_path):
    spec = {"model": str(MODEL), "recipes": ["as-is"], "devices": ["host"], "preset": "quick"}
    measurement = {"accuracy_samples": 0, "memory_invocations": 0, "init_pairs": 0, "warmup_max_s": 0, "runs": 10}
    (tmp_path / "night.toml").write_text(tomli_w.dumps({**spec, "measurement": measurement}))
    for _ in range(2):
        finished = harness_cli("nightly", "night.toml", "--results", shared_store_url, "--json", "--fail-on", "none")
        assert finished.returncode == 0, finished.stderr
    night = json.loads(finished.stdout)
    with Store.open(shared_store_url) as store:
        newest, before = (sweep.id for sweep in store.sweeps())
    (folder,) = (tmp_path / "results").glob(f"*/{newest}")
    assert sorted(path.name for path in folder.iterdir()) == ["harness.log", "junit.xml", "report.html"]
    assert before in finished.stdout
    assert len(night["cells"]) == 1
