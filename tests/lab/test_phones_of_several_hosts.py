"""One sweep over the phones of two adb servers, as if each ran on a computer of its own."""

import os
import socket
import subprocess

import pytest
from scripted_sweep import ScriptedSweep
from test_phones_come_and_go import WAIT_FOR_GO, devices, good, let_go, running, until

from harness.devices.adb.discovery import AttachedDevice, ConnectionState, connect, list_devices, open_device
from harness.devices.device_ref import DeviceRef, label_of, server_at
from harness.devices.lease import is_held, lease
from harness.errors import DeviceError, FailureClass, MissingPrerequisiteError, UsageError
from harness.spec.sweep import load_sweep_spec
from harness.sweep.targets import at_its_host, choose_targets

pytestmark = pytest.mark.slow


class Host:
    """An adb server on a port of its own."""

    def __init__(self, adb):
        self._adb = adb
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    @property
    def name(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self._do("start-server")

    def stop(self):
        self._do("kill-server")

    def connect(self, phone):
        return connect(f"{phone.serial}@{self.name}")

    def _do(self, command):
        subprocess.run(
            [self._adb, command],
            env={**os.environ, "ANDROID_ADB_SERVER_PORT": str(self.port)},
            check=True,
            capture_output=True,
            timeout=60,
        )


@pytest.fixture
def hosts(adb):
    both = Host(adb), Host(adb)
    for host in both:
        host.start()
    yield both
    for host in both:
        host.stop()


def a_sweep(folder, hosts, **spec):
    return ScriptedSweep(
        folder, WAIT_FOR_GO, prepare=False, reconnect_wait_s=0.5, hosts=[host.name for host in hosts], **spec
    )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("R58M12ABCDE@lab1:5037", "R58M12ABCDE"),  # the same phone on whatever host
        ("R58M12ABCDE@lab1", "R58M12ABCDE"),
        ("192.168.1.40:5555@lab1:5037", "192.168.1.40:5555@lab1:5037"),
        ("emulator-5554@lab2", "emulator-5554@lab2:5037"),
        ("192.168.1.40:5555", "192.168.1.40:5555"),
        ("host", "host"),
    ],
)
def test_a_phone_is_called_by_its_serial_where_that_is_enough(name, label):
    assert label_of(name) == label
    assert DeviceRef.parse(label).label == label


@pytest.mark.parametrize("name", ["R58M@", "R58M@:5037", "R58M@lab1:0", "R58M@lab1:port"])
def test_a_name_without_a_server_is_refused(name):
    with pytest.raises(UsageError, match="names no adb server"):
        DeviceRef.parse(name)


@pytest.mark.parametrize("host", ["", "lab 1", "lab1:port", "@lab1"])
def test_a_spec_names_hosts(host):
    with pytest.raises(UsageError, match="HOST or HOST:PORT"):
        load_sweep_spec(None, {"hosts": [host]})


def test_the_environments_own_server_is_no_other_host(monkeypatch):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "5100")
    assert server_at("localhost:5100") is None
    assert str(server_at("localhost:5101")) == "localhost:5101"


def test_a_serial_that_two_phones_have_is_not_guessed():
    attached = [AttachedDevice(f"0123456789ABCDEF@{host}:5037", ConnectionState.DEVICE) for host in ("lab1", "lab2")]
    with pytest.raises(MissingPrerequisiteError, match="is attached to several of lab1, lab2") as caught:
        at_its_host("0123456789ABCDEF", attached, ["lab1", "lab2"], away=[])
    assert caught.value.advice == "Name its host too: 0123456789ABCDEF@lab1:5037 or 0123456789ABCDEF@lab2:5037."


@pytest.mark.virtual_phone
def test_phones_of_two_hosts_are_measured_in_one_sweep(start_phone, hosts, tmp_path):
    phones = start_phone(connect=False), start_phone(connect=False, like="galaxy-s9-us")
    names = [host.connect(phone) for host, phone in zip(hosts, phones, strict=True)]
    for phone in phones:
        let_go(phone)
    targets = choose_targets([], [host.name for host in hosts])
    assert (targets.names, targets.takes_new, targets.notice) == (tuple(names), True, "")
    assert not {phone.serial for phone in phones} & {device.serial for device in list_devices()}
    sweep = a_sweep(tmp_path, hosts)
    sweep.run_as_the_program_does(*targets.names)
    assert good(sweep) == dict.fromkeys(names, 5)


@pytest.mark.virtual_phone
def test_a_host_that_goes_away_parks_its_phones_and_one_that_comes_brings_new_ones(start_phone, hosts, tmp_path):
    steady_host, lost_host = hosts
    steady, lost, new = (start_phone(connect=False, like=like) for like in ("pixel-8", "galaxy-s9-us", "nexus6p"))
    names = steady_host.connect(steady), lost_host.connect(lost)
    sweep = a_sweep(tmp_path, hosts)
    working = running(sweep, *names, takes_new=True)
    until(lambda: len(sweep.cells) == 2)
    lost_host.stop()
    until(lambda: any(device["failure_class"] for device in devices(sweep)))
    let_go(lost)
    let_go(new)
    lost_host.start()
    new_name = lost_host.connect(new)
    until(lambda: good(sweep)[names[1]] == 5 and good(sweep)[new_name] == 5)
    let_go(steady)
    working.join(90)
    assert good(sweep) == {names[0]: 5, names[1]: 5, new_name: 5}
    assert {device["failure_class"] for device in devices(sweep)} == {None}
    assert f"{names[1]} is back: resuming its remaining cells." in sweep.notebook.notes
    assert f"{new_name} connected: adding it to the sweep." in sweep.notebook.notes


@pytest.mark.virtual_phone
def test_a_serial_finds_its_host_and_is_leased(start_phone, hosts):
    phone, addresses = start_phone(connect=False), [host.name for host in hosts]
    name = hosts[1].connect(phone)
    assert choose_targets([phone.serial, "host"], addresses).names == (name, "host")
    with pytest.raises(MissingPrerequisiteError, match="R58M is attached to none of"):
        choose_targets(["R58M"], addresses)
    with lease(label_of(name)):
        assert is_held(open_device(name).serial)


@pytest.mark.virtual_phone
def test_a_phone_that_two_hosts_reach_is_measured_once(start_phone, hosts):
    phone = start_phone(connect=False)
    names = [host.connect(phone) for host in hosts]
    assert choose_targets([], [host.name for host in hosts]).names == (names[0],)


@pytest.mark.virtual_phone
def test_a_host_that_does_not_answer_is_told_in_one_sentence(start_phone, hosts, tmp_path):
    here, away = hosts
    phone = start_phone(connect=False)
    name = here.connect(phone)
    away.stop()
    let_go(phone)
    targets = choose_targets([], [here.name, away.name])
    assert targets.names == (name,)
    assert (
        targets.notice == f"No adb server answers at {away.name}: its phones join the sweep if it comes back in time."
    )
    with pytest.raises(MissingPrerequisiteError, match=rf"^No adb server answers at {away.name}\.$"):
        choose_targets([], [away.name])
    assert choose_targets(["R58M"], [here.name, away.name]).names == (f"R58M@{away.name}",)
    with pytest.raises(DeviceError) as caught:
        open_device(f"R58M@{away.name}")
    assert caught.value.failure.failure_class is FailureClass.DEVICE_LOST
    assert str(caught.value) == f"R58M: no adb server answers at {away.name}."
    sweep = a_sweep(tmp_path, hosts)
    site = sweep.run_as_the_program_does(*targets.names, takes_new=True)
    assert site.unreached(targets.names) == [away.name]
