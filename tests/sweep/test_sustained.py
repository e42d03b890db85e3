"""Promise H18: a cell can be run for minutes without a pause; its first window stands against its last."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_examples import SWEEP
from rich.console import Console
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.cli.options import duration_s
from harness.devices.adb.discovery import open_device
from harness.errors import UsageError
from harness.export.tables import summary_frame
from harness.report.terminal.fitting import curve
from harness.report.terminal.sweep_table import sweep_table
from harness.spec.loading import validate_spec
from harness.spec.sweep import SweepSpec

TOOL_THAT_HEATS_UP = """
average=1000
case "$*" in *--min_secs=1\\ *)
  n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count
  average=$((900 + n * 100))
  [ $n = 2 ] && sed -i 's/Status: 0/Status: 2/' /run/state/dumpsys-thermalservice
esac
count=10
sleep 0.03
case "$*" in *--num_runs=1\\ *) count=70; sleep 0.11 ;; esac
cat <<END
STARTING!
Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
count=1 curr=1500
Running benchmark for at least 1 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=$count first=$average curr=$average min=$average max=$average avg=$average std=10
Inference timings in us: Init: 5000, First inference: 1500, Warmup (avg): 1500, Inference (avg): $average
END
exit
"""
"""A tool that takes 0.1 ms longer with each window of a second, and in the second one makes the phone warn of heat."""
SIX_WINDOWS = {"sustained_s": 5.5, "sustained_window_s": 1.0}


@pytest.mark.virtual_phone
def test_promise_h18_windows_follow_each_other_on_a_phone_that_heats_up(start_phone, tmp_path):
    sweep = ScriptedSweep(tmp_path, TOOL_THAT_HEATS_UP, measurement=SIX_WINDOWS)
    sweep.run(open_device(start_phone().serial), sleep=never)
    windows = [row for row in sweep.invocations if row["purpose"] == "sustained"]
    assert [row["latency_avg_us"] for row in windows] == [1000, 1100, 1200, 1300, 1400, 1500]
    assert [row["failure_class"] for row in windows] == [None] * 6
    assert [row["gate"]["waited_s"] for row in windows[1:]] == [0] * 5
    assert [row["labels"] for row in windows[2:]] == [["hot"]] * 4
    assert {row["runs"] for row in windows} == {70}
    assert [row["purpose"] for row in sweep.invocations] == ["latency"] * 5 + ["sustained"] * 6
    summary = summarize(sweep.store, SWEEP)
    (row,) = summary_frame(summary).to_dict("records")
    assert row["sustained_curve_us"] == [1000, 1100, 1200, 1300, 1400, 1500]
    assert row["sustained_change"] == pytest.approx(0.5)
    assert row["latency_median_us"] == 1000  # the rank comes from the other processes
    screen = Console(file=StringIO(), width=120)
    screen.print(sweep_table(summary))
    assert "1.00 to 1.50 ms (+50.0 %) in 6 windows" in screen.file.getvalue()
    assert "▁▂▄▅▇█" in screen.file.getvalue()


@pytest.mark.virtual_phone
def test_promise_h18_a_run_that_was_broken_off_begins_anew(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    sweep = ScriptedSweep(tmp_path, TOOL_THAT_HEATS_UP.replace("[ $n = 2 ]", "false"), measurement=SIX_WINDOWS)
    stop_after_two_windows(sweep)
    sweep.run(device)
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert row["sustained_curve_us"] == [1000, 1100]
    sweep.stop.clear()
    sweep.run(device)
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert row["sustained_curve_us"] == [1200, 1300, 1400, 1500, 1600, 1700]
    made = len(sweep.invocations)
    sweep.run(device)
    assert len(sweep.invocations) == made


def never(_seconds):
    raise AssertionError("nothing is waited for")


def stop_after_two_windows(sweep):
    """Interrupt as Ctrl-C does once two windows are stored."""
    add, count = sweep.store.add_invocation, []

    def add_and_count(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        count.extend(["one"] * (finished.purpose == "sustained"))
        if len(count) == 2:
            sweep.stop.set()

    sweep.store.add_invocation = add_and_count


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90s", 90), ("90", 90), ("1.5h", 5400)])
def test_lengths_of_time(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "m", "-5m", "5 days", "1e3", "nan"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(UsageError, match="Invalid duration"):
        duration_s(text)


def test_a_window_must_fit_into_the_time_limit():
    values = {"measurement": {"sustained_s": 600, "sustained_window_s": 200, "timeout_s": 180}}
    with pytest.raises(UsageError, match="shorter than timeout_s"):
        validate_spec(values, SweepSpec, origin="x")


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=300), st.integers(1, 80))
def test_a_curve_fits_its_width_and_has_its_top_at_the_largest(values, width):
    drawn = curve(values, width=width)
    assert len(drawn) == min(len(values), width)
    if len(values) <= width and max(values) > 1.2 * min(values):
        assert drawn[values.index(max(values))] == "█"
        assert drawn[values.index(min(values))] == "▁"


def test_promise_h18_noise_does_not_look_like_a_cliff():
    assert set(curve([1000.0, 1001.0, 1000.5, 1001.0])) == {"▁"}
    assert curve([]) == ""
