"""Promise H4 on virtual phones: what is set is recorded, given back on every exit, and the phone confirms it."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from scripted_sweep import ScriptedSweep

from harness.devices.adb.device import WORK_FOLDER
from harness.devices.adb.discovery import connect, open_device
from harness.devices.preparation.change_note import ChangeNote, KnobChange
from harness.devices.preparation.clocks import CpuClocks
from harness.devices.preparation.knob import KnobRefusedError
from harness.devices.preparation.knobs import EVERY_KNOB, knobs_of
from harness.devices.preparation.preparation import Preparation, restore_leftovers
from harness.devices.profiles import match_profile
from harness.errors import DeviceError
from harness.spec.profile import DeviceProfile, PrepareSpec
from harness.spec.sweep import load_sweep_spec

pytestmark = pytest.mark.virtual_phone

ALL = PrepareSpec()
NOTE = f"{WORK_FOLDER}/changed.json"
CORES = range(9)
"""Of a Pixel 8."""


def looks(phone):
    """Everything on a phone that a knob can turn, seen from outside."""
    clocks = {
        f"{core}/{name}": phone.controls.clock(core, f"scaling_{name}")
        for core in CORES
        for name in ("governor", "min_freq", "max_freq")
    }
    awake = phone.controls.setting("global", "stay_on_while_plugged_in")
    screen = (phone.folder / "state/dumpsys-power").read_text()
    return {"fixed": phone.controls.fixed_performance, "awake": awake, "screen": screen, **clocks}


def outcomes(preparation):
    return {record.name: str(record.outcome) for record in preparation.records}


def replace_program(device, name, script, folder):
    file = folder / name
    file.write_text(f"#!/system/bin/sh\n{script}\n")
    copy = 'rm -f "$2"; cp "$1" "$2"; chmod 755 "$2"'
    assert device.run(["sh", "-c", copy, "sh", device.push(file), f"/system/bin/{name}"], timeout_s=9).ok


@pytest.fixture
def phone(start_phone):
    phone = start_phone()
    phone.controls.set_screen(on=False)
    return phone


@pytest.fixture
def device(phone):
    return open_device(phone.serial)


def test_promise_h4_a_phone_is_set_up_and_given_back(phone, device):
    before = looks(phone)
    with Preparation(device, knobs_of(ALL)) as preparation:
        during = looks(phone)
        assert during["fixed"] is True
        assert during["awake"] == "7"
        assert "Awake" in during["screen"]
        for core in CORES:
            assert during[f"{core}/governor"] == "performance"
            assert (
                during[f"{core}/min_freq"]
                == during[f"{core}/max_freq"]
                == phone.controls.clock(core, "cpuinfo_max_freq")
            )
        assert set(outcomes(preparation).values()) == {"set"}
        assert all(record.restored is None for record in preparation.records)
    assert looks(phone) == before
    assert {record.name: str(record.restored) for record in preparation.records} == {
        "stay-awake": "read back",
        "screen": "read back",
        "fixed-performance": "exit code",
        "cpu-governor": "read back",
        "cpu-clocks": "read back",
    }
    assert not device.run(["ls", NOTE], timeout_s=9).ok
    assert json.loads(json.dumps(preparation.as_dict()))["knobs"][0]["earlier"] == {"stay_on_while_plugged_in": "null"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_promise_h4_whatever_ends_the_block_gives_the_phone_back(phone, device, error):
    phone.controls.set_setting("global", "stay_on_while_plugged_in", "3")
    before = looks(phone)
    with pytest.raises(error), Preparation(device, knobs_of(ALL)):
        assert looks(phone) != before
        raise error
    assert looks(phone) == before


def test_promise_h4_every_change_is_on_the_phone_before_it_is_made(phone, device, tmp_path):
    seen = "/data/local/tmp/seen"
    replace_program(device, "cmd", f"cp {NOTE} {seen}; exec /system/bin/recorder", tmp_path)
    with Preparation(device, knobs_of(ALL)):
        note = json.loads(device.run(["cat", seen], timeout_s=9).stdout)
    assert note["changes"][-1] == {"knob": "fixed-performance", "earlier": {"enabled": "false"}}


HOLD = textwrap.dedent("""
    import sys, time
    from harness.devices.adb.discovery import open_device
    from harness.devices.preparation.knobs import knobs_of
    from harness.devices.preparation.preparation import Preparation
    from harness.spec.profile import PrepareSpec
    with Preparation(open_device(sys.argv[1]), knobs_of(PrepareSpec())):
        print("prepared", flush=True)
        time.sleep(100)
    """)


@pytest.fixture
def killed(phone):
    """A phone whose harness was killed while it was prepared; its looks before that."""
    before = looks(phone)
    command = [sys.executable, "-c", HOLD, phone.serial]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, text=True) as process:
        assert process.stdout.readline() == "prepared\n"
        process.kill()
    assert looks(phone) != before
    return before


def test_promise_h4_after_sigkill_the_next_start_gives_back_and_says_so(phone, device, killed):
    said = []
    with Preparation(device, [], report=said.append) as preparation:
        assert looks(phone) == killed
    assert "an earlier harness ended without giving back" in said[0]
    assert [record.name for record in preparation.found] == [knob.name for knob in EVERY_KNOB]
    assert all(record.given_back for record in preparation.found)
    assert restore_leftovers(device) == []


def test_promise_h4_a_command_that_outlives_its_harness_undoes_nothing(phone, device, tmp_path):
    """A phone so busy that it carries out `settings put` seconds after the harness which sent it was killed."""
    before = looks(phone)
    keep = device.run(["cat", "/system/bin/settings"], timeout_s=9).stdout
    slow = "[ $1 = put ] && { trap '' HUP; echo put >/data/begun; sleep 2; }"
    replace_program(device, "settings", f"{slow}\n{keep}", tmp_path)
    command = [sys.executable, "-c", HOLD, phone.serial]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ) as process:
        deadline = time.monotonic() + 60
        while device.run(["cat", "/data/begun"], timeout_s=9).stdout != "put\n":
            assert time.monotonic() < deadline
        process.kill()
    replace_program(device, "settings", keep, tmp_path)
    assert [record.given_back for record in restore_leftovers(device)] == [True]
    time.sleep(2.5)  # were it still under way, it would be done now
    assert looks(phone) == before


def test_promise_h4_after_sigkill_a_person_can_give_back(phone, device, killed, harness_cli):
    finished = harness_cli("devices", "--restore", phone.serial)
    assert finished.returncode == 0, finished.stderr
    assert "fixed-performance was given back (exit code)" in finished.stdout
    assert "cpu-governor was given back (read back)" in finished.stdout
    assert looks(phone) == killed
    assert "nothing was left changed" in harness_cli("devices", "--restore", phone.serial).stdout


def test_promise_h4_cleaning_a_phone_gives_it_back_first(phone, device, killed, harness_cli):
    assert harness_cli("devices", "--clean", phone.serial).returncode == 0
    assert looks(phone) == killed
    assert not device.run(["ls", WORK_FOLDER], timeout_s=9).ok


SWEEP = textwrap.dedent("""
    import signal, sys
    from pathlib import Path
    from scripted_sweep import ScriptedSweep
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, signal.default_int_handler)
    print("begun", flush=True)
    ScriptedSweep(Path(sys.argv[2]), "sleep 0.2").run_as_the_program_does(sys.argv[1])
    """)


def test_promise_h4_killed_at_random_moments(phone, device, tmp_path):
    before = looks(phone)
    dice = random.Random(4)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    rounds = int(os.environ.get("HARNESS_TEST_KILLS", "3"))
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", SWEEP, phone.serial, str(folder)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=Path.cwd()
        ) as process:
            process.stdout.readline()
            time.sleep(dice.uniform(0, 2.5))
            process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3])
            process.wait()
        restore_leftovers(device)
        assert looks(phone) == before, number


def test_promise_h4_an_old_phone_without_root_is_measured_as_it_is_and_says_so(start_phone, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a phone whose shell is not root needs root here")
    phone = start_phone(like="galaxy-j5", shell_user=True)
    device = open_device(phone.serial)
    sweep = ScriptedSweep(tmp_path).run(device)
    reasons = {record["name"]: record["reason"] for record in sweep.preparation["knobs"]}
    assert "from API level 30; this phone has 23" in reasons["fixed-performance"]
    assert "needs root" in reasons["cpu-governor"]
    assert "needs root" in reasons["cpu-clocks"]
    assert reasons["stay-awake"] == reasons["screen"] == ""
    assert {row["failure_class"] for row in sweep.invocations} == {None}


def test_promise_h4_a_phone_that_refuses_is_recorded_and_nothing_is_pretended(phone, device, tmp_path):
    """Phones whose maker offers no power service answer so."""
    replace_program(device, "cmd", "echo 'Failed to set FIXED_PERFORMANCE mode' >&2; exit 255", tmp_path)
    said = []
    with Preparation(device, knobs_of(PrepareSpec(lock_clocks=False)), report=said.append) as preparation:
        (record,) = [record for record in preparation.records if record.name == "fixed-performance"]
        assert str(record.outcome) == "refused"
        assert "Failed to set FIXED_PERFORMANCE mode" in record.reason
        assert preparation.labels == ["screen on", "stay-awake"]
        assert "fixed-performance" not in [change.knob for change in ChangeNote(device).read()]
    assert said == []


def test_promise_h4_what_the_phone_does_not_take_back_is_told_and_tried_again(phone, device, tmp_path):
    said = []
    with Preparation(device, knobs_of(ALL), report=said.append, sleep=lambda _: None) as preparation:
        keep = device.run(["cat", "/system/bin/settings"], timeout_s=9).stdout
        replace_program(device, "settings", "case $1 in get) echo 7 ;; esac", tmp_path)
    (record,) = [record for record in preparation.records if record.name == "stay-awake"]
    assert str(record.restored) == "differs"
    assert "reads 7 instead of null" in record.reason
    assert any("stay-awake was not given back" in text for text in said)
    assert [change.knob for change in ChangeNote(device).read()] == ["stay-awake"]
    replace_program(device, "settings", keep, tmp_path)
    with Preparation(device, knobs_of(ALL)):
        pass
    assert phone.controls.setting("global", "stay_on_while_plugged_in") is None


def test_promise_h4_a_phone_that_is_gone_is_given_back_when_it_is_there_again(phone, device):
    before, said = looks(phone), []
    with Preparation(device, knobs_of(ALL), report=said.append):
        phone.faults.switch_off()
        time.sleep(0.5)
    assert any("was not given back" in text and "--restore" in text for text in said)
    phone.faults.switch_on()
    connect(phone.serial)
    with Preparation(device, []):
        assert looks(phone) == before


def test_promise_h4_what_a_restart_undid_is_set_again(phone, device):
    with Preparation(device, knobs_of(ALL)) as preparation:
        phone.faults.reboot(0)
        connect(phone.serial)
        assert not phone.controls.fixed_performance
        preparation.renew()
        assert phone.controls.fixed_performance
    assert not phone.controls.fixed_performance


def test_promise_h4_a_sweep_stores_what_was_set_and_that_it_was_given_back(phone, device, tmp_path):
    before = looks(phone)
    told = "cat /sys/devices/system/cpu/cpu4/cpufreq/scaling_governor >/data/local/tmp/harness/told"
    sweep = ScriptedSweep(tmp_path, told).run(device)
    assert device.run(["cat", f"{WORK_FOLDER}/told"], timeout_s=9).stdout == "performance\n"
    assert looks(phone) == before
    assert {record["outcome"] for record in sweep.preparation["knobs"]} == {"set"}
    assert {record["restored"] for record in sweep.preparation["knobs"]} == {"read back", "exit code"}
    (cell,) = sweep.cells
    assert cell["mode"]["prepared"] == ["cpu-clocks 1", "cpu-governor", "fixed-performance", "screen on", "stay-awake"]


def test_a_phone_is_left_as_it_is_on_request(phone, device, tmp_path):
    before = looks(phone)
    sweep = ScriptedSweep(tmp_path, prepare=False).run(device)
    assert looks(phone) == before
    assert sweep.preparation["knobs"] == []
    assert load_sweep_spec(None, {}).prepare is True


def test_clocks_at_a_share_are_the_highest_that_the_kernel_lists_within_it(phone, device):
    listed = phone.folder / "sys/devices/system/cpu/cpu4/cpufreq/scaling_available_frequencies"
    listed.write_text("500000 1000000 1100000 1500000 2367000\n")
    with Preparation(device, [CpuClocks(0.5)]):
        assert phone.controls.clock(4, "scaling_max_freq") == phone.controls.clock(4, "scaling_min_freq") == "1100000"
        assert phone.controls.clock(0, "scaling_max_freq") == "852000"


def test_a_note_from_the_phone_writes_clocks_and_nothing_else(device):
    ChangeNote(device).write([KnobChange("cpu-governor", {"/data/local/tmp/harness/x": "performance"})])
    (record,) = restore_leftovers(device)
    assert "is no setting of a core's clock" in record.reason
    assert not device.run(["ls", "/data/local/tmp/harness/x"], timeout_s=9).ok
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    with pytest.raises(KnobRefusedError):
        EVERY_KNOB[3].write(device, {governor: "$(touch /data/x); x"})


def test_a_damaged_note_stops_everything_with_a_sentence(device):
    device.run(["sh", "-c", f"mkdir -p {WORK_FOLDER}; echo '{{' >{NOTE}"], timeout_s=9)
    with pytest.raises(DeviceError, match=r"changed\.json, cannot be read"):
        Preparation(device, []).__enter__()


def test_profiles_say_what_is_prepared(device):
    wishes = PrepareSpec(screen="as-is", stay_awake=False, fixed_performance=False)
    assert [knob.name for knob in knobs_of(wishes)] == ["cpu-governor", "cpu-clocks"]
    assert match_profile(device.facts()).prepare == DeviceProfile(name="x").prepare


def test_promise_h4_how_the_clocks_stood_is_read_before_the_mode_that_moves_them(phone, device, tmp_path):
    """As the power services of some makers do; on Android itself nothing forbids it."""
    before = looks(phone)
    keep = device.run(["cat", "/system/bin/cmd"], timeout_s=9).stdout
    clock = "/sys/devices/system/cpu/cpu4/cpufreq/scaling_min_freq"
    replace_program(device, "cmd", f"[ $3 = true ] && echo 1111000 >{clock}\n{keep}", tmp_path)
    with Preparation(device, knobs_of(ALL)):
        assert phone.controls.clock(4, "scaling_min_freq") == phone.controls.clock(4, "cpuinfo_max_freq")
    assert looks(phone) == before
