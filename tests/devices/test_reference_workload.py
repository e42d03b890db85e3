"""Promises H2 and H3 on a phone that tells nothing: a fixed piece of work, in scripted time."""

import io

import pytest
from rich.console import Console
from scripted_sweep import ScriptedSweep

from harness.analysis.evidence import RowName, read_evidence
from harness.analysis.promises import judge_promises
from harness.devices.adb.discovery import open_device
from harness.devices.device import CommandResult
from harness.devices.state.reference_workload import ReferenceWorkload, reports_nothing
from harness.devices.state.telemetry import Telemetry
from harness.devices.state.thermal_gate import ThermalGate, ThermalLimits
from harness.report.terminal.explain import explain_screen


class SilentPhone:
    """Tells no temperature and no clock; the work takes as long as the test says, and only that moves the time."""

    def __init__(self, *seconds):
        self.now_s, self.naps, self.runs = 0.0, 0, 0
        self._seconds = list(seconds)

    def run(self, arguments, *, timeout_s, environment=None):
        self.runs += 1
        self.now_s += self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        return CommandResult(0, "", "", 0.0)

    def run_script(self, script, *, timeout_s):
        return CommandResult(0, "", "", 0.0)

    def sleep(self, seconds):
        self.naps += 1

    def clock(self):
        return self.now_s


def gate_of(phone):
    workload = ReferenceWorkload(phone, None, clock=phone.clock)
    return ThermalGate(phone, ThermalLimits(40, 60, 300), [0], clock=phone.clock, sleep=phone.sleep, workload=workload)


def test_promise_h3_work_that_takes_ten_percent_longer_is_throttling():
    phone = SilentPhone(1.2, 1.0, 1.1, 1.3, 1.09, 1.3, 1.11)
    workload = ReferenceWorkload(phone, "f0", clock=phone.clock)
    assert workload.slowness() == ""  # sets 1.0, the fastest of three
    assert workload.slowness() == ""  # 1.09, the faster of two
    assert workload.slowness() == "the reference workload took 1.11 times as long as at first"


def test_promise_h2_the_gate_waits_until_the_work_is_as_fast_as_at_first():
    phone = SilentPhone(1.0, 1.0, 1.0, 1.5, 1.5, 1.4, 1.4, 1.05)
    gate = gate_of(phone)
    look, record = gate.wait(None)
    assert record.held_by == ""
    assert gate.wait(look)[1].held_by == ""
    assert phone.runs == 3  # a look that was just taken needs no more work
    _, record = gate.wait(None)
    assert record.held_by == "the reference workload took 1.50 times as long as at first"
    assert record.open
    assert phone.naps == 2


def test_a_phone_that_tells_anything_is_believed():
    assert reports_nothing(Telemetry())
    assert not reports_nothing(Telemetry(thermal_status=0))
    assert not reports_nothing(Telemetry(core_ceilings_khz={0: 1}))
    phone = SilentPhone(1.0)
    assert gate_of(phone).slowness(Telemetry(thermal_status=0)) == ""
    assert phone.runs == 0


@pytest.mark.virtual_phone
def test_promise_h3_a_silent_phone_that_got_slow_is_redone(start_phone, tmp_path):
    """Time is scripted: two moments pass around each piece of work, far apart after the second run of the tool."""
    phone = start_phone(like="galaxy-j5")
    (phone.folder / "state/dumpsys-thermalservice").unlink()
    for file in phone.folder.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq"):
        file.unlink()
    device = open_device(phone.serial)
    count = "n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count"
    now_s, cooled = [0.0], []

    def clock():
        runs = int(device.run(["cat", "/data/count"], timeout_s=9).stdout or 0)
        now_s[0] += 2.0 if runs == 2 and not cooled else 1.0
        return now_s[0]

    sweep = ScriptedSweep(tmp_path, count, prepare=False).run(device, clock=clock, sleep=cooled.append)
    places = [(row["invocation_index"], row["attempt"], row["failure_class"]) for row in sweep.invocations]
    assert places[:3] == [(0, 1, None), (1, 1, "throttled"), (1, 2, None)]
    assert "reference workload took 2.00 times" in sweep.invocations[1]["failure_message"]
    assert [failure for _, _, failure in places].count("throttled") == 1
    assert [row["gate"]["workload_ratio"] for row in sweep.invocations[:3]] == [1.0, 2.0, 1.0]
    evidence = read_evidence(sweep.store, "latest", RowName("int8", "cpu"))
    (third,) = [promise for promise in judge_promises(evidence) if promise.number == 3]
    assert (third.kept, third.sentence) == (True, "1 throttled attempt is kept and not counted.")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(explain_screen(evidence, [third]))
    assert "reference workload up to 2.00 times its first time" in console.export_text()
