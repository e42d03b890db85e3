"""What a hostile or broken device, or this host, may do: drip, print without end, leave processes, share a serial."""

import errno
import os
import resource
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.devices.adb.discovery import list_devices, open_device
from harness.devices.adb.transport import describe_loss
from harness.devices.device import KEPT_BYTES, RUN_MARK, KeptOutput
from harness.devices.device_ref import AdbServer
from harness.devices.host import HostDevice
from harness.errors import DeviceError, FailureClass
from harness.files import scratch_folder

MB = 1_000_000


@pytest.fixture
def host(tmp_path):
    return HostDevice(tmp_path / "work")


# -- pulls --


@pytest.mark.virtual_phone
def test_a_pull_has_a_limit_as_a_whole_and_leaves_nothing(start_phone, tmp_path):
    phone = start_phone(cable=True)
    device = open_device(phone.serial)
    device.run(["truncate", "-s", "6m", "/data/local/tmp/big"], timeout_s=20)
    phone.faults.slow_cable(300_000)
    began = time.monotonic()
    with pytest.raises(DeviceError, match="within the time limit"):
        device.pull("/data/local/tmp/big", tmp_path / "big", timeout_s=3)
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.virtual_phone
def test_a_file_that_is_too_large_is_not_fetched(start_phone, tmp_path, host):
    device = open_device(start_phone().serial)
    device.run(["truncate", "-s", "20g", "/data/local/tmp/sparse"], timeout_s=20)
    with pytest.raises(DeviceError, match="more than the 2000 bytes"):
        device.pull("/data/local/tmp/sparse", tmp_path / "sparse", most_bytes=2000)
    (tmp_path / "large").write_bytes(bytes(9))
    with pytest.raises(DeviceError, match="more than the 8 bytes"):
        host.pull(str(tmp_path / "large"), tmp_path / "copy", most_bytes=8)
    host.pull(str(tmp_path / "large"), tmp_path / "copy", most_bytes=9)


@pytest.mark.virtual_phone
def test_a_full_disk_of_this_host_is_no_lost_phone(start_phone, tmp_path):
    device = open_device(start_phone().serial)
    device.run(["truncate", "-s", "6m", "/data/local/tmp/big"], timeout_s=20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, before[1]))
    try:
        with pytest.raises(DeviceError, match="This host: ") as failed:
            device.pull("/data/local/tmp/big", tmp_path / "big")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.value.failure.failure_class is FailureClass.INTERNAL
    full = describe_loss(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "R58M").failure
    assert (full.failure_class, full.message[:9]) == (FailureClass.STORAGE_FULL, "This host")


def test_files_of_killed_pulls_are_removed_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "import sys\nfrom harness.files import scratch_folder\n"
        "with scratch_folder() as folder:\n (folder / 'output.part').write_text('x')\n"
        " print(folder, flush=True)\n input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    left = Path(child.stdout.readline().strip())
    old = time.time() - 60
    os.utime(left, (old, old))
    with scratch_folder() as mine:
        assert left.exists()  # its process lives
        assert mine != left
    child.kill()
    child.communicate()
    with scratch_folder():
        assert not left.exists()


# -- output --


def test_head_and_tail_of_endless_output_are_kept():
    kept = KeptOutput()
    kept.add(b"first")
    for _ in range(40):
        kept.add(bytes(MB))
    kept.add(b"last")
    assert kept.data.startswith(b"first")
    assert kept.data.endswith(b"last")
    assert kept.dropped_bytes == 40 * MB + 9 - 2 * KEPT_BYTES
    assert b"%d bytes left out" % kept.dropped_bytes in kept.data
    short = KeptOutput()
    short.add(b"all")
    assert (short.data, short.dropped_bytes) == (b"all", 0)


@pytest.mark.virtual_phone
def test_a_phone_that_prints_without_end_is_bounded(start_phone):
    device = open_device(start_phone().serial)
    result = device.run_script("head -c 40000000 /dev/zero; echo end", timeout_s=60)
    assert result.ok
    assert result.stdout.endswith("end\n")
    assert result.dropped_bytes == 40 * MB + 4 - 2 * KEPT_BYTES
    assert len(result.stdout) < 2 * KEPT_BYTES + 100


def test_a_host_program_that_prints_without_end_is_bounded(host):
    result = host.run(["sh", "-c", "head -c 40000000 /dev/zero; echo end >&2"], timeout_s=60)
    assert (result.ok, result.stderr) == (True, "end\n")
    assert result.dropped_bytes == 40 * MB - 2 * KEPT_BYTES
    endless = host.run(["yes"], timeout_s=1)
    assert endless.timed_out
    assert len(endless.stdout) < 2 * KEPT_BYTES + 100


# -- processes --

MARKED = {RUN_MARK: f"test-{os.getpid()}"}
LEAVE = "setsid sh -c 'sleep 71.5; true' >/dev/null 2>&1 </dev/null & sleep 0.3; echo done"


@pytest.mark.virtual_phone
def test_what_a_tool_leaves_in_a_session_of_its_own_is_killed(start_phone):
    device = open_device(start_phone().serial)
    assert device.run(["sh", "-c", LEAVE], timeout_s=20, environment=MARKED).stdout == "done\n"
    left = device.run_script("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout_s=20).stdout
    assert "sleep 71.5" not in left


def test_what_a_tool_leaves_on_this_host_is_killed(host):
    assert host.run(["sh", "-c", LEAVE.replace("71.5", "72.5")], timeout_s=20, environment=MARKED).stdout == "done\n"
    assert not _running_on_this_host("72.5")


def test_what_a_tool_keeps_starting_on_this_host_is_killed(host):
    keep_starting = "setsid sh -c 'while :; do setsid sleep 73.5 & done' >/dev/null 2>&1 </dev/null & sleep 0.2"
    host.run(["sh", "-c", keep_starting], timeout_s=20, environment=MARKED)
    assert not _running_on_this_host("73.5")


def test_runs_whose_marks_begin_alike_are_left_alone(host):
    with subprocess.Popen(["sleep", "74.5"], env={**os.environ, RUN_MARK: MARKED[RUN_MARK] + "1"}) as other:
        host.run(["true"], timeout_s=20, environment=MARKED)
        assert other.poll() is None
        other.kill()


def test_processes_that_end_while_leftovers_are_looked_for_are_no_error(host, monkeypatch):
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    listed = psutil.pids()
    monkeypatch.setattr(psutil, "pids", lambda: [ended.pid, *listed])
    assert host.run(["echo", "done"], timeout_s=20, environment=MARKED).stdout == "done\n"


def _running_on_this_host(argument: str) -> bool:
    return any(argument in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


def test_a_program_on_this_host_has_its_own_peak_of_memory(host):
    ballast = bytearray(200 * MB)
    for start in range(0, len(ballast), 4096):
        ballast[start] = 1  # so that it is resident
    peak = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    own = host.run([sys.executable, "-S", "-c", peak], timeout_s=20)
    assert int(own.stdout) < 60_000  # kB


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 3", (3, None, "")),
        ("echo words >&2; kill -SEGV $$", (None, 11, "words\n")),
        ("kill -KILL $$", (None, 9, "")),
    ],
)
def test_how_a_host_program_ended_is_its_own(host, script, expected):
    result = host.run(["sh", "-c", script], timeout_s=20)
    assert (result.exit_code, result.signal, result.stderr) == expected


def test_a_host_program_that_is_not_there_says_so(host):
    result = host.run(["/no/such/tool"], timeout_s=20)
    assert result.exit_code == 127
    assert "/no/such/tool" in result.stderr


# -- two phones of one serial --


class TwoPhones(socketserver.BaseRequestHandler):
    """An adb server that lists two phones of one serial, and cannot say which is meant."""

    def handle(self):
        if not (length := self.request.recv(4)):
            return
        command = self.request.recv(int(length, 16)).decode()
        answers = {
            "host:version": "OKAY" + _block("0029"),
            "host:devices": "OKAY" + _block("0123456789ABCDEF\tdevice\n" * 2 + "R58M\toffline\n"),
        }
        self.request.sendall(answers.get(command, "FAIL" + _block("more than one device")).encode())


@pytest.fixture
def server_of_two():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), TwoPhones) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield AdbServer(*server.server_address)
        server.shutdown()


def _block(text):
    return f"{len(text):04x}{text}"


def test_two_phones_of_one_serial_are_two_rows_and_refused(server_of_two):
    devices = list_devices(server_of_two)
    assert [device.state for device in devices] == ["same serial", "same serial", "offline"]
    assert "Several devices have this serial" in devices[0].state.advice
    with pytest.raises(DeviceError, match="Several devices have this serial"):
        open_device(devices[0].serial)
    late = describe_loss(RuntimeError("more than one device"), "R58M").failure  # attached in mid-sweep
    assert "several attached devices have this serial" in late.message
