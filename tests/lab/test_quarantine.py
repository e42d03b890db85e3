"""A phone with too many faults is left out with the reason, or restarted once where the spec allows; others go on."""

import json
import threading
import time

import pytest
from results_examples import SWEEP
from scripted_sweep import ScriptedSweep

from harness.analysis.summary import summarize
from harness.export.tables import summary_frame

pytestmark = [pytest.mark.virtual_phone, pytest.mark.slow]
COUNT = "n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count; "
"""Shell code: `n` is how often the tool has run."""
LOSES_ADBD = "if [ -e /data/faulty ]; then kill -9 -1; fi"
"""Shell code: a phone whose adbd dies whenever the tool runs, as long as a file says so."""


def become_faulty(phone):
    phone.processes.inside("data/faulty").touch()


def devices(sweep):
    return {row.serial: vars(row) for row in sweep.store.devices(SWEEP)}


def by_serial(sweep, serial):
    keys = {cell["key"] for cell in sweep.cells if cell["serial"] == serial}
    return [row["failure_class"] for row in sweep.invocations if row["cell_key"] in keys]


def test_a_faulty_phone_is_left_out_with_the_reason_and_the_other_is_measured(start_phone, tmp_path, harness_cli):
    faulty, well = start_phone(), start_phone(like="galaxy-s9-us")
    become_faulty(faulty)
    sweep = ScriptedSweep(tmp_path, LOSES_ADBD, prepare=False, reconnect_wait_s=60, most_faults=1)
    sweep.run_as_the_program_does(faulty.serial, well.serial)
    assert by_serial(sweep, well.serial) == [None] * 5
    assert by_serial(sweep, faulty.serial) == ["device_lost"] * 2
    stored = devices(sweep)
    reason = stored[faulty.serial]["failure_message"]
    assert reason.startswith(f"{faulty.serial} is left out of this sweep after 2 faults: device_lost 2 times (at ")
    assert stored[faulty.serial]["failure_evidence"].count("device_lost") == 2
    assert [fault["failure_class"] for fault in stored[faulty.serial]["preparation"]["faults"]] == ["device_lost"] * 2
    assert stored[well.serial]["failure_class"] is None
    assert stored[well.serial]["preparation"]["faults"] == []
    assert not [note for note in sweep.notebook.notes if "is back" in note]
    told = {
        row["serial"]: row["failure_message"]
        for row in summary_frame(summarize(sweep.store, SWEEP)).to_dict("records")
        if row["failure_class"] and not isinstance(row["variant"], str)
    }
    assert told == {faulty.serial: reason}
    sweep.store.close()
    page = tmp_path / "report.html"
    finished = harness_cli("report", SWEEP, "--results", str(tmp_path / "results"), "--output", str(page))
    assert finished.returncode == 0, finished.stderr
    assert "is left out of this sweep after 2 faults" in page.read_text()
    shown = harness_cli("results", "show", SWEEP, "--results", str(tmp_path / "results"))
    assert "is left out of this sweep after 2 faults" in " ".join(shown.stdout.split())


def test_a_phone_is_restarted_once_and_measured_on_under_the_same_preparation(start_phone, tmp_path):
    """Its fault ends with the restart, as that of a hung service would."""
    phone = start_phone()
    before = phone.controls.setting("global", "stay_on_while_plugged_in")
    lost = 'if [ $n -gt 2 ] && [ "$(getprop debug.worn)" = 1 ]; then kill -9 -1; fi'
    phone.controls.set_property("debug.worn", "1")
    sweep = ScriptedSweep(tmp_path, COUNT + lost, reconnect_wait_s=60, most_faults=0, may_reboot=True)
    sweep.run_as_the_program_does(phone.serial)
    assert by_serial(sweep, phone.serial) == [None, None, "device_lost", None, None, None]
    stored = devices(sweep)[phone.serial]
    assert stored["failure_class"] is None
    (restart,) = stored["preparation"]["restarts"]
    assert "left out of this sweep after 1 fault" in restart["message"]
    assert any("rebooted: preparing" in note for note in sweep.notebook.notes)
    assert len(sweep.cells) == 1  # the same cell, so the same preparation
    assert {knob["name"] for knob in stored["preparation"]["knobs"] if knob["outcome"] == "set"} >= {
        "fixed-performance"
    }
    assert not phone.controls.fixed_performance
    assert phone.controls.setting("global", "stay_on_while_plugged_in") == before


def test_a_phone_that_stays_faulty_is_not_restarted_twice(start_phone, tmp_path):
    phone = start_phone()
    become_faulty(phone)
    sweep = ScriptedSweep(tmp_path, LOSES_ADBD, prepare=False, reconnect_wait_s=60, most_faults=0, may_reboot=True)
    sweep.run_as_the_program_does(phone.serial)
    assert by_serial(sweep, phone.serial) == ["device_lost"] * 2
    stored = devices(sweep)[phone.serial]
    assert "left out of this sweep after 1 fault" in stored["failure_message"]
    assert len(stored["preparation"]["restarts"]) == 1
    assert sum("rebooted: preparing" in note for note in sweep.notebook.notes) == 1


def test_without_leave_no_phone_is_restarted(start_phone, tmp_path):
    phone = start_phone()
    become_faulty(phone)
    sweep = ScriptedSweep(tmp_path, LOSES_ADBD, prepare=False, reconnect_wait_s=60, most_faults=0)
    sweep.run_as_the_program_does(phone.serial)
    assert by_serial(sweep, phone.serial) == ["device_lost"]
    assert devices(sweep)[phone.serial]["preparation"]["restarts"] == []


def test_a_phone_that_hangs_for_a_while_is_waited_for_and_nothing_of_it_is_the_cells_fault(
    start_phone, tmp_path, monkeypatch
):
    """Its adbd stands still while the tool runs; that is no time limit of the tool's."""
    monkeypatch.setattr("harness.devices.adb.device._SHORT_TIMEOUT_S", 5.0)
    phone = start_phone()
    sweep = ScriptedSweep(
        tmp_path, f"{COUNT}[ $n = 2 ] && sleep 60", {"timeout_s": 5}, prepare=False, reconnect_wait_s=120
    )
    add = sweep.store.add_invocation

    def add_and_let_go(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        if finished.invocation.failure:
            phone.faults.unhang()

    sweep.store.add_invocation = add_and_let_go
    watcher = threading.Thread(target=_hang_in_second_run, args=(phone,))
    watcher.start()
    sweep.run_as_the_program_does(phone.serial)
    watcher.join()
    assert by_serial(sweep, phone.serial) == [None, "device_offline", None, None, None, None]
    assert [fault["failure_class"] for fault in devices(sweep)[phone.serial]["preparation"]["faults"]] == [
        "device_offline"
    ]


def _hang_in_second_run(phone):
    count = phone.processes.inside("data/count")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if count.exists() and count.read_text().strip() == "2":
            phone.faults.hang()
            return
        time.sleep(0.05)


def test_the_command_line_gives_leave_to_restart(harness_cli):
    def leave(*arguments):
        finished = harness_cli("sweep", "--device", "host", "--dry-run", "--json", *arguments)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)["spec"]["may_reboot"]

    assert not leave()
    assert leave("--may-reboot")
