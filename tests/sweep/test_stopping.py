"""Promise H8: in preset strict a cell is measured until its interval is narrow enough, in blocks all the same."""

import pytest
from results_examples import SWEEP, cell, failed, succeeded
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.benchmark.invocation import Pass
from harness.devices.adb.discovery import open_device
from harness.errors import Failure, FailureClass
from harness.spec.sweep import PRESETS, MeasurementSettings, load_sweep_spec
from harness.sweep.plan import PlannedInvocation
from harness.sweep.stopping import Stopping

STRICT = MeasurementSettings(invocations=30, runs=10, accuracy_samples=0, interval_width=0.02, fewest_invocations=8)
WILD_AND_QUIET = """
n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count
average=1000
case "$*" in *use_xnnpack=false*) average=$((1000 + n % 3 * 200)) ;; esac
sleep 0.03
cat <<END
STARTING!
Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=4 first=1500 curr=1000 min=990 max=1500 avg=1100 std=9
Running benchmark for at least 10 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=10 first=$average curr=$average min=$average max=$average avg=$average std=10
Inference timings in us: Init: 5000, First inference: 1500, Warmup (avg): 1100, Inference (avg): $average
Memory footprint delta from the start of the tool (MB): init=1.5 overall=4.5
END
exit
"""
"""A tool that is quiet with XNNPACK, and with the built-in kernels another one with every process."""


@pytest.fixture
def no_rows(tmp_path):
    sweep = ScriptedSweep(tmp_path)
    return sweep.store.invocations(SWEEP)


def place(index, purpose=Pass.LATENCY):
    return PlannedInvocation(cell(), purpose, index, index)


def stops_after(latencies, no_rows, measurement=STRICT):
    stopping = Stopping(measurement, no_rows)
    for index, latency in enumerate(latencies):
        if stopping.is_enough(place(index)):
            return index
        stopping.note(place(index), succeeded(latency))
    return len(latencies)


def test_promise_h8_a_quiet_cell_stops_early_and_a_noisy_one_goes_on(no_rows):
    assert stops_after([1000.0] * 30, no_rows) == 8
    assert stops_after([1000.0, 1500.0] * 15, no_rows) == 30
    settles = [1000.0, 1500.0] * 4 + [1001.0] * 22
    assert 8 < stops_after(settles, no_rows) < 30


def test_promise_h8_without_a_width_every_process_is_made(no_rows):
    assert stops_after([1000.0] * 30, no_rows, STRICT.model_copy(update={"interval_width": 0.0})) == 30
    assert PRESETS["strict"]["interval_width"] > 0
    assert load_sweep_spec(None, {}).measurement.interval_width == 0


def test_only_latency_stops_and_failures_are_no_values(no_rows):
    stopping = Stopping(STRICT, no_rows)
    for index in range(20):
        stopping.note(place(index), failed(Failure(FailureClass.CRASHED, "It crashed.")))
    assert not stopping.is_enough(place(20))
    for index in range(20):
        stopping.note(place(index), succeeded(1000.0))
    assert stopping.is_enough(place(20))
    assert not stopping.is_enough(place(0, Pass.MEMORY))


@pytest.mark.virtual_phone
def test_promise_h8_cells_stop_on_their_own_and_stay_stopped_when_carried_on(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(
        tmp_path,
        WILD_AND_QUIET,
        delegates=["cpu", "cpu-builtin"],
        measurement={"invocations": 11, "interval_width": 0.02, "fewest_invocations": 7, "memory_invocations": 1},
    ).run(device)
    made = len(sweep.invocations)
    summary = {row.delegate_requested: vars(row) for row in summarize(sweep.store, SWEEP)}
    assert summary["cpu"]["invocations_ok"] == 7
    assert summary["cpu-builtin"]["invocations_ok"] == 11
    latency = [row for row in sweep.invocations if row["purpose"] == "latency"]
    for block in range(7):
        assert len({row["cell_key"] for row in latency if row["block"] == block}) == 2
    assert sum(row["purpose"] == "memory" for row in sweep.invocations) == 2
    sweep.run(device)
    assert len(sweep.invocations) == made
