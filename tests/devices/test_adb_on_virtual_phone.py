"""Every pitfall of ADB, on a phone with the real adbd."""

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import adbutils
import pytest

from harness.devices.adb.device import WORK_FOLDER, AdbDevice
from harness.devices.adb.discovery import ConnectionState, connect, disconnect, list_devices, open_device
from harness.devices.adb.recovery import await_device
from harness.devices.adb.server import adb_client, server_address
from harness.devices.adb.transport import shell_v1
from harness.devices.device import DeviceKind
from harness.devices.lease import lease
from harness.devices.state.labels import preflight_labels
from harness.devices.state.telemetry import read_telemetry
from harness.errors import DeviceError, Failure, FailureClass, MissingPrerequisiteError
from harness.files import sha256_of

pytestmark = pytest.mark.virtual_phone


@pytest.fixture
def device(virtual_phone):
    return open_device(virtual_phone.serial)


def failure_of(action):
    with pytest.raises(DeviceError) as caught:
        action()
    return caught.value.failure


def wait_for_state(serial, state, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if {device.serial: device.state for device in list_devices()}.get(serial) == state:
            return
        time.sleep(0.1)
    raise AssertionError(f"{serial} did not become {state}")


# -- running --


def test_streams_exit_code_and_quoting(device):
    result = device.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_s=10)
    assert (result.stdout, result.stderr, result.exit_code, result.signal) == ("out\n", "err\n", 7, None)
    nasty = ["a b", "$(touch /data/pwned)", "'\"`;&|", "ü\n", "*", "--x=:,"]
    result = device.run(["printf", "%s|", *nasty], timeout_s=10, environment={"A": "$(x) y"})
    assert result.stdout == "".join(f"{text}|" for text in nasty)
    assert device.run(["ls", "/data/pwned"], timeout_s=10).exit_code != 0


def test_a_signal_is_told_apart_from_an_exit_code(device):
    result = device.run(["sh", "-c", "kill -SEGV $$"], timeout_s=10)
    assert (result.exit_code, result.signal, result.ok) == (None, 11, False)


def test_a_missing_program_is_127(device):
    assert device.run(["nosuch"], timeout_s=10).exit_code == 127


def test_promise_h21_what_runs_too_long_is_killed_on_the_phone_with_its_children(device):
    result = device.run(["sh", "-c", "echo begun; sleep 971 & sleep 972"], timeout_s=1)
    assert result.timed_out
    assert result.wall_s < 15
    assert result.stdout == "begun\n"
    processes = device.run(["ps", "-A", "-o", "STAT,ARGS"], timeout_s=10).stdout.splitlines()
    assert [line for line in processes if "sleep 97" in line and not line.startswith(("Z", "X"))] == []


def test_large_output_comes_whole(device):
    result = device.run(["head", "-c", "3000000", "/dev/zero"], timeout_s=30)
    assert len(result.stdout) == 3_000_000


def test_a_phone_before_android_7_still_tells_the_exit_code(device):
    output = shell_v1(device._adb, "echo out; exit 7", timeout_s=10)
    assert (output.stdout, output.exit_code) == (b"out\n", 7)


# -- pushing and pulling --


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my model $(touch x) 'ü' \"q\": a,b.tflite"
    path.write_bytes(os.urandom(300_000))
    return path


def test_promise_h15_a_file_goes_to_the_phone_once_and_is_checked_there(device, file):
    remote = device.push(file)
    assert remote.startswith(f"{WORK_FOLDER}/blobs/")
    assert device.run(["sha256sum", remote], timeout_s=10).stdout.split()[0] == Path(remote).name
    before = device.run(["stat", "-c", "%Y %i", remote], timeout_s=10).stdout
    assert AdbDevice(adb_client(), device.serial).push(file) == remote  # another session finds it there
    assert device.run(["stat", "-c", "%Y %i", remote], timeout_s=10).stdout == before
    assert ".part" not in device.run(["ls", f"{WORK_FOLDER}/blobs"], timeout_s=10).stdout


def test_promise_h15_a_changed_file_on_the_phone_is_sent_again(device, file):
    remote = device.push(file)
    device.run(["sh", "-c", f"echo x > {remote}"], timeout_s=10)
    assert AdbDevice(adb_client(), device.serial).push(file) == remote
    assert device.run(["stat", "-c", "%s", remote], timeout_s=10).stdout.strip() == "300000"


def test_promise_h15_what_arrives_changed_is_told_and_never_used(device, tmp_path, monkeypatch):
    """A cable or a storage that loses the end of a file, and says that all is well."""
    send = adbutils.sync.Sync._push_file

    def send_half(sync, local, remote, mode):
        half = tmp_path / "half"
        half.write_bytes(Path(local).read_bytes()[:150_000])
        return send(sync, half, remote, mode)

    whole = tmp_path / "whole"
    whole.write_bytes(os.urandom(300_000))
    monkeypatch.setattr(adbutils.sync.Sync, "_push_file", send_half)
    assert failure_of(lambda: device.push(whole)).failure_class is FailureClass.PUSH_CORRUPT
    blobs = device.run(["ls", f"{WORK_FOLDER}/blobs"], timeout_s=10).stdout
    assert sha256_of(whole) not in blobs
    monkeypatch.undo()
    remote = device.push(whole)
    assert device.run(["stat", "-c", "%s", remote], timeout_s=10).stdout.strip() == "300000"


def test_a_pushed_program_can_be_run(device, tmp_path):
    script = tmp_path / "tool"
    script.write_text("#!/system/bin/sh\necho ran\n")
    assert device.run([device.push(script)], timeout_s=10).stdout == "ran\n"


def test_pull_gives_what_is_there_and_never_an_empty_folder(device, file, tmp_path):
    device.pull(device.push(file), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    failure = failure_of(lambda: device.pull("/data/local/tmp/nosuch", tmp_path / "missing"))
    assert "not there" in failure.message
    assert not (tmp_path / "missing").exists()
    assert not list(tmp_path.glob("*.part"))


def test_only_the_work_folder_is_ever_removed(device, file):
    remote = device.push(file)
    for outside in ("/data/local/tmp", f"{WORK_FOLDER}/../x", "/"):
        assert "left alone" in failure_of(lambda path=outside: device.remove(path)).message
    device.remove(WORK_FOLDER)
    assert device.run(["ls", WORK_FOLDER], timeout_s=10).exit_code != 0
    assert device.push(file) == remote  # and it is made again


def test_a_full_disk_is_told_with_numbers_and_leaves_nothing(start_phone, tmp_path):
    phone = start_phone(data_size="8m")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(9_000_000))
    device = open_device(phone.serial)
    failure = failure_of(lambda: device.push(big))
    assert failure.failure_class is FailureClass.STORAGE_FULL
    assert "9.0 MB do not fit" in failure.message
    assert device.run(["ls", f"{WORK_FOLDER}/blobs"], timeout_s=10).stdout == ""


# -- losses --


def test_a_crash_of_adbd_is_never_a_result(start_phone, adb):
    """adb 29's own shell exits 0 here, with its output cut short."""
    phone = start_phone()
    device = open_device(phone.serial)
    threading.Timer(0.5, phone.faults.crash_adbd).start()
    failure = failure_of(lambda: device.run(["sh", "-c", "echo 1; sleep 5; echo 2"], timeout_s=20))
    assert failure.failure_class is FailureClass.DEVICE_LOST
    await_device(device, deadline=time.monotonic() + 20, stop=threading.Event(), failure=failure)
    assert device.run(["echo", "again"], timeout_s=10).stdout == "again\n"


def test_a_crash_while_pushing_leaves_nothing_once_the_file_is_pushed_again(start_phone, tmp_path):
    phone = start_phone(cable=True)
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20_000_000))
    device = open_device(phone.serial)
    phone.faults.slow_cable(5_000_000)
    threading.Timer(1.0, phone.faults.crash_adbd).start()
    assert failure_of(lambda: device.push(big)).failure_class is FailureClass.DEVICE_LOST
    phone.faults.slow_cable(None)
    connect(phone.serial)
    blobs = ["ls", f"{WORK_FOLDER}/blobs"]
    assert ".part" in device.run(blobs, timeout_s=10).stdout
    device.push(big)
    assert device.run(blobs, timeout_s=10).stdout.split() == [sha256_of(big)]


def test_promise_h21_a_hung_phone_ends_every_call_in_time(start_phone, tmp_path, monkeypatch):
    phone = start_phone()
    device = open_device(phone.serial)
    device.run(["true"], timeout_s=5)
    phone.faults.hang()
    started = time.monotonic()
    result = failure_of(lambda: device.run(["true"], timeout_s=1))
    assert result.failure_class is FailureClass.DEVICE_OFFLINE
    monkeypatch.setattr("harness.devices.adb.device._SHORT_TIMEOUT_S", 1.0)
    small = tmp_path / "small"
    small.write_bytes(b"x")
    assert failure_of(lambda: device.push(small)).failure_class is FailureClass.DEVICE_OFFLINE
    pulled = failure_of(lambda: device.pull("/data/x", tmp_path / "x", timeout_s=1))
    assert pulled.failure_class is FailureClass.DEVICE_OFFLINE
    assert time.monotonic() - started < 15
    phone.faults.unhang()


def test_a_slow_push_on_a_dead_cable_ends(start_phone, tmp_path, monkeypatch):
    phone = start_phone(cable=True)
    device = open_device(phone.serial)
    device.run(["true"], timeout_s=5)
    monkeypatch.setattr("harness.devices.adb.device._SLOWEST_PUSH_BYTES_PER_S", 10_000_000)
    monkeypatch.setattr("harness.devices.adb.device._SHORT_TIMEOUT_S", 2.0)
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20_000_000))
    phone.faults.slow_cable(2_000_000)
    threading.Timer(1.0, phone.faults.stop_cable).start()
    assert failure_of(lambda: device.push(big)).failure_class in (
        FailureClass.DEVICE_OFFLINE,
        FailureClass.DEVICE_LOST,
    )


def test_a_cut_cable_and_back(start_phone):
    phone = start_phone(cable=True)
    device = open_device(phone.serial)
    threading.Timer(0.5, phone.faults.cut_cable).start()
    failure = failure_of(lambda: device.run(["sleep", "5"], timeout_s=20))
    assert failure.failure_class in (FailureClass.DEVICE_LOST, FailureClass.DEVICE_OFFLINE)
    with pytest.raises(DeviceError):
        await_device(device, deadline=time.monotonic() + 2, stop=threading.Event(), failure=failure)
    phone.faults.plug_cable()
    await_device(device, deadline=time.monotonic() + 20, stop=threading.Event(), failure=failure)


def test_a_phone_that_is_switched_off(start_phone):
    phone = start_phone()
    device = open_device(phone.serial)
    phone.faults.switch_off()
    wait_for_state(phone.serial, ConnectionState.OFFLINE)
    assert failure_of(lambda: device.run(["true"], timeout_s=5)).failure_class in (
        FailureClass.DEVICE_OFFLINE,
        FailureClass.DEVICE_LOST,
    )
    assert failure_of(lambda: open_device(phone.serial)).failure_class is FailureClass.DEVICE_OFFLINE
    phone.faults.switch_on()
    assert connect(phone.serial) == phone.serial


def test_a_reboot_keeps_files_and_loses_properties(start_phone, tmp_path):
    phone = start_phone()
    device = open_device(phone.serial)
    device.run(["setprop", "debug.x", "1"], timeout_s=5)
    remote = device.push(_small(tmp_path))
    phone.faults.reboot(1)
    failure = Failure(FailureClass.DEVICE_LOST, "rebooting")
    time.sleep(0.5)
    await_device(device, deadline=time.monotonic() + 30, stop=threading.Event(), failure=failure)
    assert device.run(["getprop", "debug.x"], timeout_s=5).stdout.strip() == ""
    assert device.run(["ls", remote], timeout_s=5).ok


def _small(folder):
    path = folder / "small"
    path.write_bytes(b"model")
    return path


# -- states --


def test_an_unauthorized_phone_and_its_acceptance(start_phone, tmp_path):
    phone = start_phone(connect=False, authorize=True)
    failure = failure_of(lambda: connect(phone.serial))
    assert failure.failure_class is FailureClass.DEVICE_UNAUTHORIZED
    assert "USB debugging" in failure.advice
    (found,) = [device for device in list_devices() if device.serial == phone.serial]
    assert found.state is ConnectionState.UNAUTHORIZED
    disconnect(phone.serial)
    key = Path(os.environ["HOME"], ".android", "adbkey.pub")
    trusting = start_phone(authorize=True, authorized_keys=key)
    assert open_device(trusting.serial).run(["true"], timeout_s=5).ok


def test_a_phone_that_was_lost_and_asks_to_be_trusted_is_told_as_such(start_phone):
    key = Path(os.environ["HOME"], ".android", "adbkey.pub")
    phone = start_phone(authorize=True, authorized_keys=key)
    device = open_device(phone.serial)
    phone.faults.revoke_keys()
    lost = Failure(FailureClass.DEVICE_LOST, "the connection to it was lost")
    with suppress(DeviceError):
        await_device(device, deadline=time.monotonic() + 2, stop=threading.Event(), failure=lost)
    wait_for_state(phone.serial, ConnectionState.UNAUTHORIZED)
    now = time.monotonic()
    failure = failure_of(lambda: await_device(device, deadline=now, stop=threading.Event(), failure=lost))
    assert failure.failure_class is FailureClass.DEVICE_UNAUTHORIZED
    phone.faults.accept_keys()
    await_device(device, deadline=time.monotonic() + 60, stop=threading.Event(), failure=lost)
    assert device.run(["true"], timeout_s=10).ok


def test_already_connected_may_be_a_phone_that_hangs(start_phone):
    """The adb server says "already connected" of a phone that has stopped answering; `connect` must not believe it."""
    phone = start_phone()
    phone.faults.hang()
    assert "already connected" in adb_client().connect(phone.serial, timeout=10)
    failure = failure_of(lambda: connect(phone.serial, timeout_s=2))
    assert failure.failure_class in (FailureClass.DEVICE_OFFLINE, FailureClass.DEVICE_LOST)
    phone.faults.unhang()
    assert connect(phone.serial) == phone.serial


def test_a_phone_that_was_off_is_connected_again(start_phone):
    phone = start_phone()
    phone.faults.switch_off()
    wait_for_state(phone.serial, ConnectionState.OFFLINE)
    assert failure_of(lambda: connect(phone.serial, timeout_s=2)).failure_class in (
        FailureClass.DEVICE_OFFLINE,
        FailureClass.DEVICE_LOST,
    )
    phone.faults.switch_on()
    assert connect(phone.serial) == phone.serial


def test_connecting_to_nothing(adb):
    failure = failure_of(lambda: connect("127.0.0.1:1", timeout_s=2))
    assert failure.failure_class is FailureClass.DEVICE_LOST


def test_a_serial_that_is_not_there(adb):
    assert failure_of(lambda: open_device("nosuch")).failure_class is FailureClass.DEVICE_LOST


def test_a_phone_that_still_boots(start_phone):
    phone = start_phone()
    phone.controls.set_property("sys.boot_completed", "0")
    (found,) = [device for device in list_devices() if device.serial == phone.serial]
    assert found.state is ConnectionState.BOOTING


@pytest.fixture
def server_that_looks_for_emulators(adb, monkeypatch):
    """An adb server of its own which, as by default, takes what listens on odd ports 5555 to 5585 for emulators."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.delenv("ADB_EMU", raising=False)
    yield
    subprocess.run([adb, "kill-server"], env=os.environ, timeout=20, capture_output=True, check=False)


def test_an_emulators_port_gives_one_device_not_two(start_phone, server_that_looks_for_emulators):
    phone = start_phone(port=5557, connect=False)
    adb_client()  # starts the server, which finds the phone by itself
    connect(phone.serial)
    deadline = time.monotonic() + 15
    names = set()
    while time.monotonic() < deadline and len(names) < 2:
        names = {device.serial for device in adb_client().list()}
        time.sleep(0.2)
    assert names == {"emulator-5556", phone.serial}
    assert len(list_devices()) == 1


# -- facts, telemetry, labels --


def test_facts_of_the_dressed_phone(device):
    facts = device.facts()
    assert (facts.model, facts.maker, facts.board) == ("Pixel 8", "Google", "zuma")
    assert facts.kind is DeviceKind.VIRTUAL
    assert facts.abis == ("arm64-v8a",)
    assert facts.executable_abis != facts.abis or os.uname().machine == "aarch64"
    assert len(facts.cores) == 9
    assert facts.title == "Google Pixel 8"


def test_promise_h1_telemetry_and_labels_follow_the_phone(start_phone):
    phone = start_phone(like="galaxy-s9-us")
    device = open_device(phone.serial)
    phone.controls.set_battery(level=12, temperature=433)
    phone.controls.set_thermal_status(2, 44.5)
    phone.controls.set_zone_temperature(0, 71.5)
    phone.controls.set_setting("global", "low_power", "1")
    phone.controls.set_core_frequency(0, 1_234_000)
    telemetry = read_telemetry(device)
    assert telemetry.battery_percent == 12
    assert telemetry.battery_temperature_c == 43.3
    assert telemetry.thermal_status == 2
    assert telemetry.hottest_c == 71.5
    assert telemetry.core_frequencies_khz[0] == 1_234_000
    labels = preflight_labels(device.facts(), telemetry)
    assert {"virtual phone", "low battery", "power save", "hot"} <= set(labels)


# -- server and lease --


def test_promise_h21_a_lease_is_for_one_process():
    with lease("S 1/../x"):
        failure = failure_of(lambda: lease("S 1/../x").__enter__())
        assert str(os.getpid()) in failure.message
    with lease("S 1/../x"):
        pass


def test_a_remote_server_by_address(device, virtual_phone, monkeypatch):
    """A server on another machine is one that is not asked to be started: 127.0.0.2 stands for it."""
    import socket
    import socketserver

    _, port = server_address()

    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", port)) as far:

                def back():
                    with suppress(OSError):
                        while data := far.recv(65536):
                            self.request.sendall(data)

                thread = threading.Thread(target=back, daemon=True)
                thread.start()
                while data := self.request.recv(65536):
                    far.sendall(data)

    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.2", 0), Relay) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_ADDRESS", "127.0.0.2")
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(relay.server_address[1]))
        assert virtual_phone.serial in {found.serial for found in list_devices()}
        assert open_device(virtual_phone.serial).run(["echo", "far"], timeout_s=10).stdout == "far\n"
        relay.shutdown()


def test_a_dead_remote_server_is_told(monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_ADDRESS", "127.0.0.3")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    with pytest.raises(MissingPrerequisiteError, match=r"No adb server answers at 127\.0\.0\.3:1"):
        list_devices()


def test_a_server_that_died_is_started_again(adb, virtual_phone):
    subprocess.run([adb, "kill-server"], timeout=20, capture_output=True, check=False)
    assert connect(virtual_phone.serial) == virtual_phone.serial


def test_no_adb_at_all(monkeypatch):
    from harness.devices.adb import server

    def missing():
        raise adbutils.AdbError("no adb")

    monkeypatch.setattr(adbutils, "adb_path", missing)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    server.adb_program.cache_clear()
    try:
        with pytest.raises(MissingPrerequisiteError, match="Cannot find the program adb"):
            list_devices()
    finally:
        server.adb_program.cache_clear()
