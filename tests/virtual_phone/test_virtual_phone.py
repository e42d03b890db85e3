"""Virtual phones: how they look, how they change while they run, how they break, how they end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from experiments.injected_faults import command_line, commands_on

from harness.devices.adb.discovery import open_device
from harness.errors import MissingPrerequisiteError, UsageError
from harness.virtual_phone import base_image
from harness.virtual_phone.base_image import debian_mirror
from harness.virtual_phone.phone import VirtualPhone, running_phones, virtual_phone
from harness.virtual_phone.recording import load_recording, shipped_recordings

pytestmark = pytest.mark.virtual_phone


def shell(phone, script):
    result = open_device(phone.serial).run(["sh", "-c", script], timeout_s=20)
    return result.stdout.strip()


# -- looks --


def test_it_is_android_to_the_shell(virtual_phone):
    assert shell(virtual_phone, "echo $ANDROID_ROOT $ANDROID_DATA") == "/system /data"
    assert "inaccessible or not found" in open_device(virtual_phone.serial).run(["nosuch"], timeout_s=9).stderr
    assert int(shell(virtual_phone, "ls /system/bin | wc -l")) > 100
    assert shell(virtual_phone, "settings get global low_power") == "null"
    assert shell(virtual_phone, "getprop nosuch fallback") == "fallback"
    assert shell(virtual_phone, "setprop a.b 'c d'; getprop a.b") == "c d"
    assert shell(virtual_phone, "setprop a.b '$b'; getprop | grep a.b") == "[a.b]: [$b]", "listed once, as set last"
    assert shell(virtual_phone, "dumpsys nosuch; echo $?").endswith("20")


def test_it_is_confined(virtual_phone):
    """Its own processes and files; nothing of this machine's."""
    assert shell(virtual_phone, f"ls {Path(__file__).parent}; echo $?") != "0"
    assert int(shell(virtual_phone, "ps -A | wc -l")) < 12
    assert shell(virtual_phone, "touch /vendor/tflite/x; echo $?") == "1"


def test_it_listens_on_the_loopback_alone(virtual_phone):
    port = int(virtual_phone.serial.rpartition(":")[2])
    listening = [
        line.split() for file in ("/proc/net/tcp", "/proc/net/tcp6") for line in Path(file).read_text().splitlines()
    ]
    addresses = {
        fields[1].rpartition(":")[0] for fields in listening if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
    }
    assert addresses == {"0000000000000000FFFF00000100007F"}


@pytest.mark.parametrize("like", shipped_recordings())
def test_every_shipped_costume_fits(start_phone, like):
    phone = start_phone(like=like)
    recording = load_recording(like)
    facts = open_device(phone.serial).facts()
    assert facts.model == recording.properties["ro.product.model"]
    assert shell(phone, "cat /proc/cpuinfo") == recording.files["/proc/cpuinfo"].strip()
    assert facts.cores


def test_a_recorded_phone_by_its_file(start_phone, tmp_path):
    record = tmp_path / "my phone.json"
    files = {"/proc/cpuinfo": "processor\t: 0\n", "/sys/devices/system/cpu/possible": "0-1\n", "/sys/../etc/x": "no"}
    record.write_text(json.dumps({"properties": {"ro.product.model": "My 'Phone' $(x)"}, "files": files}))
    phone = start_phone(like=str(record))
    assert open_device(phone.serial).facts().model == "My 'Phone' $(x)"
    assert shell(phone, "cat /sys/devices/system/cpu/possible") == "0-1"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"properties": 1, "files": {}}', '{"properties": {}}'])
def test_what_is_no_record_is_refused(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="Cannot read the recording"):
        load_recording(str(file))


def test_an_unknown_costume_lists_the_known_ones():
    with pytest.raises(UsageError) as caught:
        load_recording("nokia-3310")
    assert "pixel-8" in caught.value.advice


# -- life --


def test_a_name_is_taken_once_and_free_again(start_phone):
    phone = start_phone("one-name", connect=False)
    assert "one-name" in {running.name for running in running_phones()}
    with pytest.raises(UsageError, match="is running already"):
        VirtualPhone.start("one-name")
    phone.stop()
    assert not phone.running
    assert not phone.folder.exists()
    start_phone("one-name", connect=False)


@pytest.mark.parametrize("name", ["", "../x", "a b", "$(x)", "x" * 60])
def test_bad_names_are_refused(name, phone_ready):
    with pytest.raises(UsageError, match="Invalid phone name"):
        VirtualPhone.start(name)


def test_a_phone_ends_with_its_owner_even_when_that_is_killed(phone_ready):
    program = textwrap.dedent("""
        import time
        from harness.virtual_phone.phone import VirtualPhone
        phone = VirtualPhone.start("orphan", owned=True)
        print("started", flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "started\n"
        phone = VirtualPhone("orphan")
        assert phone.running
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while phone.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not phone.running
    phone.stop()


def test_a_command_ends_with_its_connection_as_on_a_phone(start_phone):
    """It has answered before: adbd forgets a command whose connection ends while it is still being made."""
    phone = start_phone(cable=True)
    shell = ["adb", "-s", phone.serial, "shell", "echo started; exec sleep 977"]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "started\n"
        until(lambda: [command_line(command) for command in commands_on(phone)] == [["sleep", "977"]])
        phone.faults.cut_cable()
        client.wait()  # adb 29 ends with 0 even then
    until(lambda: not commands_on(phone))


def test_commands_take_signals_as_on_a_phone_even_under_nohup(start_phone):
    """What a program ignores, its children ignore; nohup ignores SIGHUP, with which adbd ends a command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        phone = start_phone()
    finally:
        signal.signal(signal.SIGHUP, before)
    status = open_device(phone.serial).run_script("cat /proc/self/status", timeout_s=20).stdout
    (ignored,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn"))
    assert not ignored & sum(1 << (number - 1) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT))


def until(condition):
    """Wait as long as it takes: only the time limit of the whole test ends this."""
    while not condition():
        time.sleep(0.05)


def test_a_hung_phone_stands_still_at_once(start_phone):
    phone = start_phone(connect=False)
    adbd = phone.processes.adbd_pid()
    for _ in range(20):
        phone.faults.hang()
        threads = Path(f"/proc/{adbd}/task").glob("*/stat")
        assert {thread.read_text().rpartition(")")[2].split()[0] for thread in threads} == {"T"}
        phone.faults.unhang()


def test_a_with_block_stops_its_phone(phone_ready):
    with pytest.raises(ZeroDivisionError), virtual_phone("block") as phone:
        assert phone.running
        raise ZeroDivisionError
    assert not phone.running


@pytest.mark.parametrize("owned", [True, False])
def test_a_stopped_phone_leaves_no_process_behind(phone_ready, owned):
    before = children()
    phone = VirtualPhone.start("brief", owned=owned)
    assert children() - before
    phone.stop()
    assert children() - before == set()


def children():
    """Return the processes that this one started and that are there, zombies too."""
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return {int(number) for number in listed}


def test_pinned_to_a_core(start_phone):
    phone = start_phone(cores="0")
    assert shell(phone, "nproc") == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="adbd as another user needs root")
def test_the_shell_user(start_phone):
    phone = start_phone(shell_user=True)
    assert shell(phone, "id -u") == "2000"
    assert (
        "Permission denied"
        in open_device(phone.serial)
        .run(["sh", "-c", "echo 1 > /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq"], timeout_s=9)
        .stderr
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a plain user")
def test_a_plain_user_can_run_a_phone(phone_ready, tmp_path_factory):
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not limit.exists() or limit.read_text().strip() == "0":
        pytest.skip("user namespaces are switched off on this machine")
    folder = Path("/var/tmp") / f"harness-plain-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    base = base_image.base_image()
    program = textwrap.dedent(f"""
        import os
        import harness.virtual_phone.phone as module  # before, since the user may not read this Python
        from harness.paths import cache_folder
        cache_folder()  # loads what it needs
        os.setgid(65534); os.setuid(65534)
        module.base_image = lambda report: __import__("pathlib").Path({str(folder / "base")!r})
        with module.virtual_phone("plain") as phone:
            print(phone.running, os.getuid())
    """)
    subprocess.run(["cp", "-a", str(base), str(folder / "base")], check=True)
    subprocess.run(["chown", "-R", "65534:65534", str(folder / "base")], check=True)  # as if the user had built it
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "HOME": str(folder), "TMPDIR": str(folder)}
    try:
        finished = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if "PermissionError" in finished.stderr and "harness" in finished.stderr:
            pytest.skip("this checkout or its Python cannot be read by a plain user")
        assert finished.stdout == "True 65534\n", finished.stderr
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


# -- official tool and GPU --


@pytest.mark.official_tool
def test_the_official_tool_is_the_vendor_partition(virtual_phone):
    assert "benchmark_model" in shell(virtual_phone, "ls /vendor/tflite/phone")
    assert "libpocl" in shell(virtual_phone, "cat /etc/OpenCL/vendors/pocl.icd")


# -- what is missing --


def test_missing_programs_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(base_image.shutil, "which", lambda program, **_: None if program == "g++" else "/bin/x")
    with pytest.raises(MissingPrerequisiteError, match=r"lacks g\+\+") as caught:
        base_image.check_programs()
    assert caught.value.advice == "On Debian: apt install g++"


def test_the_mirror_comes_from_the_machines_own_sources(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    with pytest.raises(MissingPrerequisiteError, match="Cannot find a Debian mirror"):
        debian_mirror(tmp_path)
    (tmp_path / "sources.list").write_text("# deb http://no/\ndeb [arch=amd64] http://old.example/debian stable main\n")
    assert debian_mirror(tmp_path) == "http://old.example/debian"
    (tmp_path / "sources.list.d" / "debian.sources").write_text("Types: deb\nURIs: http://new.example/debian\n")
    assert debian_mirror(tmp_path) == "http://new.example/debian"


# -- command line --


def test_the_command_line_starts_changes_breaks_and_stops_a_phone(harness_cli, phone_ready):
    started = harness_cli("phone", "start", "cli-phone", "--like", "nexus6p", "--cable", "--json")
    assert started.returncode == 0, started.stderr
    assert json.loads(started.stdout)["like"] == "nexus6p"
    listed = json.loads(harness_cli("phone", "list", "--json").stdout)
    assert "cli-phone" in {phone["name"] for phone in listed["phones"]}
    changes = ["--battery-level", "7", "--temperature", "0=55.5", "--thermal-status", "3"]
    changes += ["--setting", "global.low_power=1", "--property", "a.b=c"]
    changed = harness_cli("phone", "set", "cli-phone", *changes)
    assert changed.returncode == 0, changed.stderr
    state = VirtualPhone("cli-phone").folder
    assert "level: 7\n" in (state / "state/dumpsys-battery").read_text()
    assert (state / "sys/class/thermal/thermal_zone0/temp").read_text() == "55500\n"
    for fault in (
        "hang",
        "unhang",
        "slow-cable",
        "cut-cable",
        "plug-cable",
        "fill-storage",
        "free-storage",
        "off",
        "on",
    ):
        finished = harness_cli("phone", "fault", "cli-phone", fault)
        assert finished.returncode == 0, (fault, finished.stderr)
    assert harness_cli("phone", "stop", "cli-phone").returncode == 0
    again = harness_cli("phone", "stop", "cli-phone")
    assert again.returncode == 2
    assert "No virtual phone 'cli-phone' runs" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("phone", "stop"), "Name one phone, or say --all"),
        (("phone", "fault", "nosuch", "crash"), "'nosuch' is not running"),
        (("phone", "fault", "nosuch", "revoke-keys"), "'nosuch' is not running"),
        (("phone", "set", "nosuch", "--temperature", "x=y"), "found x=y"),
        (("phone", "set", "nosuch", "--temperature", "0=55"), "'nosuch' is not running"),
        (("phone", "set", "nosuch", "--battery-level", "5"), "'nosuch' is not running"),
        (("phone", "set", "../../x", "--temperature", "0=55"), "Invalid phone name"),
        (("phone", "start", "a b"), "Invalid phone name 'a b'"),
        (("phone", "start", "x", "--like", "nokia"), "No recording 'nokia'"),
    ],
)
def test_bad_usage_is_one_sentence(harness_cli, phone_ready, arguments, sentence):
    finished = harness_cli(*arguments)
    assert finished.returncode == 2
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr
