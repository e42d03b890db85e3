"""Promises H2, H3 and H16 on virtual phones whose heat, thermal status and clocks are scripted from outside."""

import os
import threading
import time

import pytest
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.devices.state.sampling import ClockSamples, parse_samples
from harness.devices.state.telemetry import Telemetry, read_telemetry
from harness.devices.state.thermal_gate import ThermalGate, ThermalLimits, body_temperatures, held_back, throttling
from harness.errors import DeviceError, FailureClass
from harness.export.tables import summary_frame
from harness.spec.profile import DeviceProfile
from harness.virtual_phone.phone import virtual_phone

LIMITS = ThermalLimits(limit_c=40, chip_limit_c=60, wait_s=300)
COOL = Telemetry(
    thermal_status=0, temperatures_c={"SKIN": 31.0, "zone:cpu-0-0": 45.0}, core_ceilings_khz={4: 2_000_000}
)


class Time:
    """A clock that only sleeping moves; each nap carries out what the test has in store."""

    def __init__(self, *events):
        self.now_s, self.naps, self._events = 0.0, [], list(events)

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds
        self.naps.append(seconds)
        if self._events:
            self._events.pop(0)()


@pytest.fixture(scope="module")
def shared_phone(phone_ready, adb):
    with virtual_phone(f"gate-{os.getpid()}") as phone:
        connect(phone.serial)
        yield phone
        disconnect(phone.serial)


@pytest.fixture
def phone(shared_phone):
    """The phone of all tests here, cool and fast again for each."""
    shared_phone.controls.set_thermal_status(0)
    shared_phone.controls.set_battery(level=87)
    for zone, degrees_c in ((0, 35.0), (3, 29.1)):
        shared_phone.controls.set_zone_temperature(zone, degrees_c)
    for core in range(9):
        fastest = int(shared_phone.controls.clock(core, "cpuinfo_max_freq"))
        shared_phone.controls.set_core_ceiling(core, fastest)
        shared_phone.controls.set_core_frequency(core, fastest)
    shared_phone.processes.inside("data/count").unlink(missing_ok=True)
    return shared_phone


@pytest.fixture
def device(phone):
    return open_device(phone.serial)


@pytest.fixture
def profiled(monkeypatch):
    """Give the phones of a test another profile."""

    def choose(**values):
        profile = DeviceProfile(name="of the test", cores="all", **values)
        monkeypatch.setattr("harness.sweep.device.ready.match_profile", lambda _facts: profile)

    return choose


def run_in_scripted_time(sweep, device, scripted):
    return sweep.run(device, clock=scripted.clock, sleep=scripted.sleep)


# -- the gate (H2) --


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (COOL, ""),
        (Telemetry(thermal_status=1), "thermal status 1"),
        (Telemetry(temperatures_c={"SKIN": 40.5}), "SKIN at 40.5 °C, limit 40 °C"),
        (Telemetry(temperatures_c={"zone:cpu-0-0": 59.0}), ""),
        (Telemetry(temperatures_c={"zone:cpu-0-0": 61.0, "SKIN": 40.1}), "cpu-0-0 at 61.0 °C, limit 60 °C"),
        (Telemetry(temperatures_c={"zone:pm8150_tz": 48.0, "zone:pa-therm0": 44.0, "GPU0": 52.0}), ""),
        (Telemetry(temperatures_c={"zone:VIRTUAL-SKIN": 41.0}), "VIRTUAL-SKIN at 41.0 °C, limit 40 °C"),
        (Telemetry(battery_temperature_c=43.0), "battery at 43.0 °C, limit 40 °C"),
        (Telemetry(temperatures_c={"zone:soc": 87.0, "vbat": 42.0, "zone:pm8150-bcl-lvl0": 100.0}), ""),  # no heat
        (Telemetry(), ""),  # a phone that tells nothing
    ],
)
def test_promise_h2_what_holds_the_gate_shut(look, reason):
    assert ThermalGate(None, LIMITS, [4]).held_by(look) == reason


@pytest.mark.virtual_phone
def test_promise_h2_the_gate_waits_for_status_zones_and_clocks_and_counts_down(phone, device):
    told = []
    scripted = Time(
        lambda: phone.controls.set_zone_temperature(0, 35.0),  # still: thermal status 2
        lambda: phone.controls.set_thermal_status(0),
        lambda: phone.controls.set_core_ceiling(4, 2_367_000),
    )
    gate = ThermalGate(device, LIMITS, [4], clock=scripted.clock, sleep=scripted.sleep, tell=told.append)
    phone.controls.set_core_ceiling(4, 2_367_000)
    cool, record = gate.wait(None)
    assert (record.waited_s, record.looks, record.held_by, record.open) == (0, 1, "", True)
    assert gate.wait(cool)[1].looks == 0  # a look just taken saves one
    phone.controls.set_zone_temperature(0, 71.5)
    phone.controls.set_thermal_status(2)
    phone.controls.set_core_ceiling(4, 1_200_000)
    look, record = gate.wait(None)
    assert record.open
    assert record.held_by == "thermal status 2"
    assert record.waited_s == scripted.now_s == sum(scripted.naps)
    assert look.core_ceilings_khz[4] == 2_367_000
    assert [wait.reason for wait in told] == ["thermal status 2", "thermal status 2", "core 4 at 1.20 of 2.37 GHz"]
    assert told[0].left_s == 300


@pytest.mark.virtual_phone
def test_promise_h2_the_wait_has_a_limit(phone, device):
    phone.controls.set_thermal_status(3)
    scripted = Time()
    gate = ThermalGate(device, ThermalLimits(40, 60, 7), [0], clock=scripted.clock, sleep=scripted.sleep)
    _, record = gate.wait(None)
    assert not record.open
    assert scripted.now_s == 7


@pytest.mark.virtual_phone
def test_promise_h2_ctrl_c_ends_the_wait_at_once(phone, device, tmp_path):
    phone.controls.set_thermal_status(3)
    sweep = ScriptedSweep(tmp_path)
    threading.Timer(1.0, sweep.stop.set).start()
    sweep.run(device)
    assert sweep.invocations == []


@pytest.mark.virtual_phone
def test_promise_h2_no_invocation_starts_on_a_hot_phone(phone, device, tmp_path):
    phone.controls.set_zone_temperature(3, 44.0)  # its battery's zone
    scripted = Time(lambda: None, lambda: phone.controls.set_zone_temperature(3, 30.0))
    sweep = run_in_scripted_time(ScriptedSweep(tmp_path), device, scripted)
    first, *others = sweep.invocations
    assert first["gate"]["held_by"] == "battery at 44.0 °C, limit 40 °C"
    assert first["gate"]["waited_s"] > 0
    assert first["telemetry_before"]["temperatures_c"]["zone:battery"] == 30.0
    assert [row["gate"]["waited_s"] for row in others] == [0] * 4
    assert all("cooling: battery at 44.0" in text for text in sweep.notebook.waits)
    assert len(sweep.notebook.waits) == 2


@pytest.mark.virtual_phone
def test_promise_h2_a_phone_that_never_cools_is_given_up_and_resumed(phone, device, tmp_path, profiled):
    profiled(thermal_wait_s=9)
    phone.controls.set_thermal_status(2)
    sweep = ScriptedSweep(tmp_path)
    with pytest.raises(DeviceError) as caught:
        run_in_scripted_time(sweep, device, Time())
    assert caught.value.failure.failure_class is FailureClass.THROTTLED
    assert "did not cool within 9 s: thermal status 2" in str(caught.value)
    assert [row["latency_avg_us"] for row in sweep.invocations] == [None, None]
    assert not sweep.store.done(SWEEP)  # --resume tries all again
    assert not phone.controls.fixed_performance


@pytest.mark.virtual_phone
def test_a_profile_that_waits_for_nothing_measures_hot_and_says_so(phone, device, tmp_path, profiled):
    profiled(thermal_wait_s=0)
    phone.controls.set_zone_temperature(3, 44.0)
    sweep = ScriptedSweep(tmp_path).run(device)
    assert {tuple(row["labels"]) for row in sweep.invocations} == {("hot",)}
    assert {row["failure_class"] for row in sweep.invocations} == {None}


# -- after the run (H3) --


@pytest.mark.parametrize(
    ("after", "sign"),
    [
        (COOL, None),
        (Telemetry(thermal_status=2), "thermal status 2"),
        (Telemetry(core_ceilings_khz={4: 1_500_000}), "core 4 at 1.50 of 2.00 GHz"),
        (Telemetry(core_ceilings_khz={4: 1_950_000}), None),  # one small step
        (Telemetry(core_ceilings_khz={4: 2_000_000, 7: 1}), None),  # a core that is not measured on
        (None, None),
    ],
)
def test_promise_h3_signs_of_throttling(after, sign):
    failure = throttling(COOL, None, after, [4])
    assert (failure is None) if sign is None else failure.message.endswith(f"while the tool ran: {sign}.")


def test_promise_h3_a_locked_clock_that_falls_is_throttling_an_idle_one_is_not():
    locked = Telemetry(core_frequencies_khz={4: 2000}, core_floors_khz={4: 2000}, core_ceilings_khz={4: 2000})
    free = Telemetry(core_frequencies_khz={4: 2000}, core_floors_khz={4: 500}, core_ceilings_khz={4: 2000})
    slow = Telemetry(core_frequencies_khz={4: 500})
    assert held_back(locked, slow, [4])
    assert not held_back(free, slow, [4])


def test_promise_h3_a_limit_that_held_only_while_the_tool_ran_is_throttling():
    during = ClockSamples(count=3, lowest_ceilings_khz={4: 900_000})
    assert throttling(COOL, during, COOL, [4]).message.endswith("core 4 at 0.90 of 2.00 GHz.")
    assert throttling(COOL, ClockSamples(), COOL, [4]) is None


COUNT = "n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count; "
"""Shell code: `n` is how often the tool has run."""


@pytest.mark.virtual_phone
def test_promise_h3_a_throttled_invocation_is_kept_marked_cooled_and_redone(phone, device, tmp_path):
    """The second and third run of the tool heat the phone; each nap at the gate cools it."""
    heat = "[ $n = 2 -o $n = 3 ] && sed -i 's/Status: 0/Status: 2/' /run/state/dumpsys-thermalservice"
    cool = Time(*[lambda: phone.controls.set_thermal_status(0)] * 5)
    sweep = run_in_scripted_time(ScriptedSweep(tmp_path, f"{COUNT}{heat}"), device, cool)
    places = [(row["invocation_index"], row["attempt"], row["failure_class"]) for row in sweep.invocations]
    assert places == [
        (0, 1, None),
        (1, 1, "throttled"),
        (1, 2, "throttled"),
        (1, 3, None),
        (2, 1, None),
        (3, 1, None),
        (4, 1, None),
    ]
    discarded, redone = sweep.invocations[1], sweep.invocations[3]
    assert discarded["labels"] == ["throttled"]
    assert discarded["latency_avg_us"] == 1000  # kept, with its log
    assert (tmp_path / "results" / discarded["log_path"]).exists()
    assert discarded["telemetry_after"]["thermal_status"] == 2
    assert redone["gate"]["held_by"] == "thermal status 2"
    assert redone["telemetry_before"]["thermal_status"] == 0
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert (row["invocations_ok"], row["invocations_failed"]) == (5, 0)
    assert sum("held back while the tool ran: thermal status 2" in note for note in sweep.notebook.notes) == 2


@pytest.mark.virtual_phone
def test_promise_h3_at_most_two_redos_and_a_throttled_number_never_counts(phone, device, tmp_path):
    slow = "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq; do echo 600000 >$f; done"

    def cool():
        for core in range(9):
            phone.controls.set_core_ceiling(core, int(phone.controls.clock(core, "cpuinfo_max_freq")))

    scripted = Time(*[cool] * 20)
    sweep = run_in_scripted_time(ScriptedSweep(tmp_path, slow), device, scripted)
    attempts = [(row["invocation_index"], row["attempt"]) for row in sweep.invocations]
    assert attempts == [(index, attempt) for index in range(5) for attempt in (1, 2, 3)]
    assert {row["failure_class"] for row in sweep.invocations} == {"throttled"}
    assert "of 1.70 GHz" in sweep.invocations[0]["failure_message"]
    (row,) = summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
    assert row["invocations_ok"] == 0
    assert row["failure_class"] == "throttled"
    assert not sweep.store.done(SWEEP)  # --resume tries again on a cooler day


# -- the looks around it (H16) --


@pytest.mark.virtual_phone
def test_promise_h16_every_invocation_has_a_look_before_and_after(phone, device, tmp_path):
    phone.controls.set_battery(level=61)
    change = "sed -i 's/level: .*/level: 60/' /run/state/dumpsys-battery; "
    clock = "echo 1111000 >/sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq"
    sweep = ScriptedSweep(tmp_path, change + clock).run(device)
    first, second = sweep.invocations[:2]
    before, after = first["telemetry_before"], first["telemetry_after"]
    for look in (before, after):
        assert look["thermal_status"] == 0
        assert look["temperatures_c"]["zone:cpu-0-0"] == 35.0
        assert look["screen_on"] is True
        assert look["load_1min"] is not None
        assert set(look["core_frequencies_khz"]) == set(look["core_ceilings_khz"]) == {str(core) for core in range(9)}
    assert (before["battery_percent"], after["battery_percent"]) == (61, 60)
    assert after["core_frequencies_khz"]["3"] == 1_111_000
    assert second["telemetry_before"] == after  # one look stands between two invocations


@pytest.mark.virtual_phone
def test_promise_h16_clocks_are_sampled_while_the_tool_runs(phone, device, tmp_path):
    """A kernel that holds back for half a second, and is over it when the tool ends."""
    clock = "/sys/devices/system/cpu/cpu0/cpufreq"
    dip = f"cd {clock}; m=$(cat scaling_max_freq); echo 600000 >scaling_max_freq; echo 1777000 >scaling_cur_freq"
    over = "sleep 0.8; echo $m >scaling_max_freq; echo 1704000 >scaling_cur_freq"
    sweep = ScriptedSweep(tmp_path, f"{COUNT}if [ $n = 1 ]; then {dip}; {over}; fi").run(device)
    held_back, redone = sweep.invocations[:2]
    assert held_back["failure_class"] == "throttled"
    assert held_back["telemetry_during"]["count"] >= 2
    assert held_back["telemetry_during"]["peak_frequencies_khz"]["0"] == 1_777_000
    assert held_back["telemetry_during"]["lowest_ceilings_khz"]["0"] == 600_000
    assert held_back["telemetry_during"]["cores_allowed"] == [sweep.cells[0]["core_mask"]]
    assert held_back["telemetry_after"]["core_ceilings_khz"]["0"] == 1_704_000
    assert (redone["invocation_index"], redone["attempt"], redone["failure_class"]) == (0, 2, None)


def test_samples_of_a_phone_that_tells_nothing():
    assert parse_samples("") == parse_samples("grep: /sys: Permission denied\n") == ClockSamples()
    long_mask = "sample\n/proc/9/status:Cpus_allowed:\t00000000,000000f0\n"
    assert parse_samples(long_mask) == ClockSamples(count=1, cores_allowed=("f0",))


@pytest.mark.virtual_phone
def test_promise_h16_a_phone_without_a_thermal_service_tells_what_it_can(start_phone, tmp_path):
    phone = start_phone(like="galaxy-j5")
    (phone.folder / "state/dumpsys-thermalservice").unlink()
    device = open_device(phone.serial)
    look = read_telemetry(device)
    assert look.thermal_status is None
    assert body_temperatures(look)["battery"] == 29.1
    sweep = ScriptedSweep(tmp_path).run(device)
    assert {row["failure_class"] for row in sweep.invocations} == {None}


@pytest.mark.virtual_phone
def test_promise_h16_a_lost_phone_has_no_look_after(phone, device, tmp_path):
    """The look that a lost phone could not give is not made up, and the next invocation looks anew."""
    sweep = ScriptedSweep(tmp_path, f"{COUNT}[ $n = 2 ] && sleep 20")
    watcher = threading.Thread(target=_crash_at_second_run, args=(phone, device))
    watcher.start()
    sweep.run(device)
    watcher.join()
    lost = [row for row in sweep.invocations if row["failure_class"] == "device_lost"]
    assert len(lost) == 1
    assert lost[0]["telemetry_before"] is not None
    assert lost[0]["telemetry_after"] is None
    assert all(row["telemetry_after"] for row in sweep.invocations if row["failure_class"] is None)


def _crash_at_second_run(phone, device):
    count = phone.processes.inside("data/count")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if count.exists() and count.read_text().strip() == "2":
            phone.faults.crash_adbd()
            return
        time.sleep(0.05)
