"""Nights as cron starts them, on a virtual phone whose tool is a script: the phone itself becomes slower."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_sweep import Notebook, OneTool, script_tool
from stored_tables import frame

from harness.analysis.history.night_check import Trouble
from harness.devices.lease import lease
from harness.errors import ExitCode
from harness.nightly.night import NightSettings, night_lock, run_night
from harness.spec.sweep import load_sweep_spec
from harness.store.records import SweepStatus
from harness.store.store import Store
from harness.sweep.context import Deadline

pytestmark = pytest.mark.virtual_phone

MODEL = Path(__file__).parents[1] / "accuracy" / "data" / "pooled-float.tflite"
FLAGS = "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_xnnpack use_gpu use_nnapi"
SCRIPT = """#!/system/bin/sh
n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count
average=$((1000 + n % 5))
sleep 0.05
if [ -e /data/slow ]; then average=$((3 * average)); fi
cat <<END
STARTING!
Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=4 first=1500 curr=1000 min=990 max=1500 avg=1100 std=9
Running benchmark for at least 10 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=10 first=$average curr=$average min=$average max=$average avg=$average std=10
Inference timings in us: Init: 5000, First inference: 1500, Warmup (avg): 1100, Inference (avg): $average
Memory footprint delta from the start of the tool (MB): init=1.5 overall=4.5
END
"""


class Lab:
    """One phone and a folder of results."""

    def __init__(self, folder, phone):
        script = folder / "benchmark_model"
        script.write_text(SCRIPT)
        self.phone = phone
        self.results = folder / "results"
        self.notebook = Notebook()
        self._tool = script_tool(script, flags=frozenset(FLAGS.split()))

    def night(self, threads=(1,), deadline=None, **settings):
        spec = load_sweep_spec(
            None,
            {
                "model": str(MODEL),
                "recipes": ["as-is"],
                "devices": [self.phone.serial],
                "threads": list(threads),
                "delegates": ["cpu", "cpu-builtin"],
                "measurement": {
                    "runs": 10,
                    "accuracy_samples": 0,
                    "memory_invocations": 0,
                    "warmup_max_s": 0,
                    "init_pairs": 0,
                },
            },
        )
        return run_night(
            NightSettings(spec, self.results, **settings),
            self.notebook,
            registry=OneTool(self._tool),
            deadline=deadline,
        )

    def processes(self):
        with sqlite3.connect(self.results / "results.sqlite3") as connection:
            return connection.execute("select count(*) from invocations").fetchone()[0]


@pytest.fixture
def lab(start_phone, tmp_path):
    return Lab(tmp_path, start_phone())


def test_a_phone_that_became_slower_is_found_the_next_night(lab):
    first, second = lab.night(), lab.night()
    assert first.exit_code == second.exit_code == ExitCode.OK
    assert [cell.compared for cell in first.check.cells] == [None, None]
    assert all(cell.compared.a.sweep_id == first.check.sweep_id for cell in second.check.cells)
    lab.phone.processes.inside("data/slow").touch()
    third = lab.night()
    assert third.exit_code == ExitCode.CELL_FAILED
    assert len(third.check.troubled(Trouble.SLOWER)) == 2
    assert {cell.compared.a.sweep_id for cell in third.check.cells} == {second.check.sweep_id}
    assert lab.night(fail_on=()).exit_code == ExitCode.OK


def test_a_night_with_little_time_measures_what_is_new_and_says_what_it_left_out(lab):
    lab.night()
    before = lab.processes()
    budget = 13
    deadline = Deadline(budget / 10, clock=lambda: (lab.processes() - before) / 10)  # a process takes 0.1 s
    outcome = lab.night(threads=(1, 2), deadline=deadline)
    assert lab.processes() - before == budget
    assert not outcome.interrupted
    assert outcome.exit_code == ExitCode.OK
    whole = {(cell.name.delegate, cell.name.threads) for cell in outcome.check.cells if not cell.is_left_out}
    assert whole == {("cpu", 2), ("cpu-builtin", 2)}
    assert len(outcome.check.troubled(Trouble.LEFT_OUT)) == 2
    with Store.open(lab.results) as store:
        assert store.find_sweep("latest").status is SweepStatus.INTERRUPTED


def test_a_night_whose_time_is_enough_is_one_wave_and_finished(lab):
    lab.night()
    outcome = lab.night(deadline=Deadline(1e9, clock=lambda: 0.0))
    assert outcome.exit_code == ExitCode.OK
    with Store.open(lab.results) as store:
        assert store.find_sweep("latest").status is SweepStatus.FINISHED
        blocks = frame(store.invocations(outcome.check.sweep_id)).groupby("block")["cell_key"].nunique()
    assert set(blocks) == {2}


def test_a_phone_that_is_not_there_is_exit_code_3_and_told_in_junit(harness_cli, tmp_path, registered_tools):
    spec = tmp_path / "lab.toml"
    spec.write_text(f'model = "{MODEL}"\nrecipes = ["as-is"]\ndevices = ["NOSUCH"]\nreconnect_wait_s = 0.1\n')
    finished = harness_cli("nightly", str(spec), "--results", "r", "--junit", "night.xml", "--json")
    assert finished.returncode == 3, finished.stderr
    assert "NOSUCH" in json.loads(finished.stdout)["error"]["message"]
    assert "<error" in (tmp_path / "night.xml").read_text()


def official_spec(folder, phone, invocations=5):
    spec = folder / "lab.toml"
    spec.write_text(f"""
model = "{MODEL}"
recipes = ["as-is"]
devices = ["{phone.serial}"]
delegates = ["cpu"]
[measurement]
invocations = {invocations}
runs = 5
accuracy_samples = 4
warmup_max_s = 0
init_pairs = 0
memory_invocations = 0
""")
    return str(spec)


@pytest.mark.official_tool
def test_the_command_line_writes_its_files_and_prints_one_document(
    harness_cli, tmp_path, registered_tools, virtual_phone
):
    spec = official_spec(tmp_path, virtual_phone)
    finished = harness_cli("nightly", spec, "--results", "r", "--until", "23:59", "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["schema_version"] == 1
    (cell,) = document["cells"]
    assert cell["row"]["latency_median_us"] > 0
    folder = tmp_path / "r" / document["sweep"]
    assert (folder / "junit.xml").is_file()
    assert document["sweep"] in (folder / "report.html").read_text()


@pytest.mark.official_tool
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, ExitCode.INTERRUPTED)])
def test_a_night_that_is_ended_from_outside_keeps_what_is_done_and_holds_nothing(
    tmp_path, registered_tools, virtual_phone, how, code
):
    results = tmp_path / "results"
    command = [
        sys.executable,
        "-m",
        "harness",
        "nightly",
        official_spec(tmp_path, virtual_phone, invocations=1000),
        "--results",
        str(results),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as night:
        with Store.open(results) as store:
            while night.poll() is None and len(done := _done(store)) < 2:
                time.sleep(0.2)
        os.kill(night.pid, how)
        assert night.wait(60) == code
    with Store.open(results) as store:
        record = store.find_sweep("latest")
        assert done <= _done(store)
        assert record.status is (SweepStatus.RUNNING if how is signal.SIGKILL else SweepStatus.INTERRUPTED)
    with night_lock(results), lease(virtual_phone.serial):
        pass


def _done(store):
    return store.done(store.sweeps()[0].id) if store.sweeps() else set()
