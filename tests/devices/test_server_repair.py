"""A dead adb server is started, a hung one ended and started, but never one that anybody else uses."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from harness.devices.adb import server, server_repair
from harness.devices.adb.discovery import connect, last_listed, list_devices, open_device
from harness.devices.adb.recovery import await_device
from harness.devices.adb.server import adb_client
from harness.devices.adb.server_repair import repair_server
from harness.devices.lease import lease, other_holder
from harness.errors import Failure, FailureClass

SERIAL = "127.0.0.1:9"
HOLD = """
import sys, time
from harness.devices.lease import lease
with lease(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
CONNECT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))):
    print("connected", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def port(adb, monkeypatch):
    """A server of this test's own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 2.0)
    adb_client()
    yield port
    if process := server_process(port):
        process.kill()
        process.wait(20)


def server_process(port):
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
            return psutil.Process(one.pid)
    return None


@pytest.fixture
def beside():
    """Run a few lines of Python beside the test, until it ends."""
    started = []

    def run(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline().strip()
        return process

    yield run
    for process in started:
        process.kill()
        process.wait(20)


def test_a_server_that_answers_is_let_be(port):
    before = server_process(port).pid
    assert repair_server([SERIAL]) == ""
    assert server_process(port).pid == before


def test_a_dead_server_is_started(port):
    server_process(port).kill()
    until(lambda: not server.listens("127.0.0.1", port))
    assert repair_server([SERIAL]) == "The adb server had ended: it was started again."
    assert list_devices() == []


def test_a_hung_server_that_nobody_else_uses_is_ended_and_started(port):
    before = server_process(port)
    before.suspend()
    with lease(SERIAL):  # one's own phone
        assert repair_server([SERIAL]).endswith("it was ended and started again.")
    assert server_process(port).pid != before.pid
    assert repair_server([SERIAL]) == ""


def test_a_hung_server_is_left_alone_when_another_process_is_connected(port, beside):
    other = beside(CONNECT, str(port))
    hung = server_process(port)
    hung.suspend()
    said = repair_server([])
    assert said.startswith("The adb server does not answer, and is left alone: ")
    assert f"(process {other.pid}) uses it too." in said
    assert server_process(port).pid == hung.pid
    other.kill()
    other.wait(20)
    assert repair_server([]).endswith("it was ended and started again.")


def test_a_hung_server_is_left_alone_when_another_harness_holds_one_of_its_phones(port, beside):
    other = beside(HOLD, SERIAL)
    hung = server_process(port)
    hung.suspend()
    assert f"another harness holds {SERIAL} (process {other.pid} of user " in repair_server([SERIAL])
    assert server_process(port).pid == hung.pid
    hung.resume()
    assert repair_server([SERIAL]) == ""


def test_a_server_on_another_host_is_never_touched(port, monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_ADDRESS", "192.0.2.1")
    monkeypatch.setattr(server_repair, "server_answers", lambda host, port: False)
    assert repair_server([]) == (
        f"The adb server at 192.0.2.1:{port} does not answer; harness restarts none on another host."
    )


def test_what_is_no_adb_server_is_not_ended(port, monkeypatch, beside):
    listen = "import socket, sys\nwith socket.create_server(('127.0.0.1', 0)) as one:\n"
    listen += "    print(one.getsockname()[1], flush=True)\n    sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", other.stdout.readline().strip())
        assert f"(process {other.pid})" in repair_server([])
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(20)


def test_who_else_holds_a_phone(beside):
    assert other_holder(SERIAL) == ""
    with lease(SERIAL):
        assert other_holder(SERIAL) == ""
    other = beside(HOLD, SERIAL)
    assert other_holder(SERIAL).startswith(f"process {other.pid} of user ")


@pytest.mark.virtual_phone
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_phone_is_reached_again_after_its_server_died_or_hung(port, start_phone, fault):
    phone = start_phone()
    device = open_device(connect(phone.serial))
    assert phone.serial in last_listed()
    os.kill(server_process(port).pid, fault)
    told = []
    failure = Failure(FailureClass.DEVICE_LOST, "away")
    await_device(device, deadline=time.monotonic() + 120, stop=threading.Event(), failure=failure, tell=told.append)
    assert device.run(["echo", "again"], timeout_s=20).stdout == "again\n"
    if fault is signal.SIGSTOP:
        assert len(told) == 1
    else:  # a dead one is started by whoever needs it next
        assert told in ([], ["The adb server had ended: it was started again."])


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
