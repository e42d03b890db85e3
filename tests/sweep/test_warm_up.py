"""Promise H6: the warm-up of a cell is long enough, shown by a test, or the row says that it is not."""

import numpy as np
import pytest
from results_examples import SWEEP, measurement
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.devices.adb.discovery import open_device
from harness.export.tables import summary_frame
from harness.report.terminal.sweep_table import sweep_table
from harness.sweep.device.cell_setup import FEWEST_RUNS, find_warm_up, window_difference

TOOL_THAT_SETTLES = """
for argument; do
  case $argument in
  --warmup_runs=*) warmup=${argument#*=} ;;
  --num_runs=*) runs=${argument#*=} ;;
  esac
done
slow=$((1000 + 2000 / warmup))
sleep 0.2
cat <<END
STARTING!
Running benchmark for at least $warmup iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=$warmup first=$slow curr=$slow min=$slow max=$slow avg=$slow std=1
Running benchmark for at least $runs iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=$runs first=1000 curr=1000 min=1000 max=1000 avg=1000 std=1
Inference timings in us: Init: 5000, First inference: $slow, Warmup (avg): $slow, Inference (avg): 1000
Memory footprint delta from the start of the tool (MB): init=1.5 overall=4.5
END
exit
"""
"""A tool whose warm-up is slower by 2 ms over its number of runs: 5 % at 40 runs, 2.5 % at 80."""


class Cell:
    """A cell that begins half as slow again and loses that with every run by the same share; 100 runs a second."""

    def __init__(self, lasts_runs):
        self._lasts_runs, self.windows = lasts_runs, []

    def excess(self, start, count):
        runs = np.arange(start, start + count)
        return float(0.5 * np.exp(-runs / self._lasts_runs).mean())

    def __call__(self, window):
        self.windows.append(window)
        made = max(window.runs, round(100 * window.seconds))
        return measurement(
            warmup_runs=made,
            warmup_window_us=1000 * (1 + self.excess(0, made)),
            timed_window_us=1000 * (1 + self.excess(made, made)),
        )


def search(measure, longest_s=8.0):
    return find_warm_up(measure, limit=0.04, shortest_s=0.25, longest_s=longest_s)


def test_promise_h6_a_cell_that_is_fast_at_once_costs_one_short_process():
    cell = Cell(lasts_runs=0.5)
    found = search(cell)
    assert (found.runs, found.min_s, found.converged) == (25, 0.0, True)
    assert len(cell.windows) == 1


@pytest.mark.parametrize("lasts_runs", [3, 10, 40, 100])
def test_promise_h6_what_is_timed_after_the_warm_up_found_is_at_full_speed(lasts_runs):
    cell = Cell(lasts_runs)
    found = search(cell, longest_s=600)
    assert found.converged
    assert cell.excess(found.runs, 30) < 0.01
    assert cell.excess(1, 30) > 0.01  # with one run, as the tool does by itself, it is not
    assert [window.runs for window in cell.windows] == [FEWEST_RUNS * 2**step for step in range(len(cell.windows))]


def test_promise_h6_the_search_has_an_end_and_says_that_nothing_settled():
    cell = Cell(lasts_runs=100)
    found = search(cell, longest_s=2.0)
    assert (found.runs, found.converged) == (200, False)
    assert [window.seconds for window in cell.windows] == [0.25, 0.5, 1.0, 2.0]


def test_a_process_that_fails_or_prints_no_windows_leaves_the_warm_up_untested():
    for outcome in (None, measurement()):
        found = search(lambda _window, outcome=outcome: outcome)
        assert (found.runs, found.min_s, found.converged) == (1, 0.25, None)


def test_promise_h6_getting_slower_is_no_warm_up_either():
    slower = measurement(warmup_window_us=900.0, timed_window_us=1000.0)
    assert window_difference(slower) == pytest.approx(-0.1)
    assert search(lambda _window: slower).converged is False


@pytest.mark.virtual_phone
@pytest.mark.parametrize(("longest_s", "runs", "converged"), [(4.0, 80, True), (1.0, 20, False)])
def test_promise_h6_every_process_of_a_cell_warms_up_as_was_found(start_phone, tmp_path, longest_s, runs, converged):
    sweep = ScriptedSweep(tmp_path, TOOL_THAT_SETTLES, measurement={"warmup_max_s": longest_s, "memory_invocations": 1})
    sweep.run(open_device(start_phone().serial))
    trials = [row for row in sweep.invocations if row["purpose"] == "warm_up"]
    others = [row for row in sweep.invocations if row["purpose"] != "warm_up"]
    asked = [row["warmup_asked_runs"] for row in trials]
    assert asked == [5 * 2**step for step in range(len(asked))]
    assert asked[-1] == runs
    assert len(others) == 6
    for row in others:
        assert (row["warmup_asked_runs"], row["warmup_runs"], row["warmup_converged"]) == (runs, runs, converged)
        assert f"--warmup_runs={runs}" in row["command"]
        assert "--warmup_min_secs=0" in row["command"]
    summary = summarize(sweep.store, SWEEP)
    (row,) = summary_frame(summary).to_dict("records")
    assert (row["warmup_runs"], row["warmup_converged"], row["invocations_ok"]) == (runs, converged, 5)
    assert ("not warmed up" in printed(summary)) is not converged


@pytest.mark.virtual_phone
def test_promise_h6_a_sweep_that_is_carried_on_keeps_the_warm_up(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(tmp_path, f"touch /data/ran; {TOOL_THAT_SETTLES}", measurement={"warmup_max_s": 4.0})
    stop_after_three(sweep)
    sweep.run(device)
    before = len(sweep.invocations)
    sweep.stop.clear()
    sweep.run(device)
    assert before < len(sweep.invocations)
    assert sum(row["purpose"] == "warm_up" for row in sweep.invocations) == 5
    assert {row["warmup_asked_runs"] for row in sweep.invocations if row["purpose"] == "latency"} == {80}


@pytest.mark.virtual_phone
def test_promise_h6_a_search_that_is_carried_on_repeats_nothing(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(tmp_path, TOOL_THAT_SETTLES, measurement={"warmup_max_s": 4.0})
    stop_after_three(sweep, "warm_up")
    sweep.run(device)
    before = sweep.invocations
    assert [row["warmup_asked_runs"] for row in before] == [5, 10, 20]
    sweep.stop.clear()
    sweep.run(device)
    assert sweep.invocations[:3] == before
    asked = [row["warmup_asked_runs"] for row in sweep.invocations]
    assert asked == [5, 10, 20, 40, 80, *[80] * 5]


def stop_after_three(sweep, purpose="latency"):
    """Interrupt as Ctrl-C does once three processes of a pass are stored."""
    add, count = sweep.store.add_invocation, []

    def add_and_count(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        count.extend(["one"] * (finished.purpose == purpose))
        if len(count) == 3:
            sweep.stop.set()

    sweep.store.add_invocation = add_and_count


def printed(summary):
    from io import StringIO

    from rich.console import Console

    screen = Console(file=StringIO(), width=140)
    screen.print(sweep_table(summary))
    return screen.file.getvalue()
