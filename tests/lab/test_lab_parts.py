"""The parts of a lab, each without a network: what travels, what is announced, what is refused, who is named how."""

import sys
import threading

import numpy as np
import pytest
from results_examples import SWEEP, card
from scripted_sweep import Notebook, ScriptedSweep
from stored_tables import frame

from harness.datasets.labelled import Samples
from harness.devices.lease import lease
from harness.errors import DeviceError, Failure, FailureClass, HarnessError, MissingPrerequisiteError, UsageError
from harness.files import sha256_of
from harness.lab import client, engine
from harness.lab import phone_registry as shelf
from harness.lab import processes as worker
from harness.lab.client import HostLostError, Lab, LabHost
from harness.lab.device_source import LabSource, open_source
from harness.lab.job import JobStop, SendingObserver, pass_on
from harness.lab.phone_registry import Announcement, LabPhoneInfo, PhoneRegistry
from harness.lab.transfer import (
    PIECE_BYTES,
    TransferFile,
    complete,
    keep_piece,
    lacking,
    load_samples,
    parcel_of,
    pieces,
    place_of,
    save_samples,
)
from harness.progress import DeviceEvent, DeviceStatus, Temperature
from harness.spec.sweep import load_sweep_spec

SHARED = "postgresql+psycopg://harness@server/results"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- what travels ----


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 5])
def test_a_file_arrives_whole_and_only_once(own_cache, tmp_path, size):
    file = tmp_path / "variant.tflite"
    file.write_bytes(np.random.default_rng(1).bytes(size))
    parcel = TransferFile(sha256_of(file), file)
    assert lacking([parcel.name]) == [parcel.name]
    for offset, piece in pieces(parcel):
        keep_piece(parcel.name, "run", offset, piece)
        assert lacking([parcel.name]) == [parcel.name]
    complete(parcel.name, "run")
    assert lacking([parcel.name]) == []
    assert place_of(parcel.name).read_bytes() == file.read_bytes()
    assert [path.name for path in (own_cache / "lab").iterdir()] == [parcel.name]


def test_a_file_that_arrived_changed_is_not_kept(own_cache, tmp_path):
    file = tmp_path / "variant.tflite"
    file.write_bytes(b"model")
    parcel = TransferFile(sha256_of(file), file)
    keep_piece(parcel.name, "run", 0, b"medal")
    with pytest.raises(HarnessError, match="arrived changed"):
        complete(parcel.name, "run")
    assert list((own_cache / "lab").iterdir()) == []


def test_a_host_without_room_says_so(own_cache):
    own_cache.write_text("a file where a folder should be")
    with pytest.raises(HarnessError, match="lab cannot be written: Not a directory"):
        keep_piece(f"{'0' * 64}.npz", "run", 0, b"piece")


@pytest.mark.parametrize("name", ["lab 1", "lab1:8786", "a@b"])
def test_a_host_is_named_so_that_its_phones_can_be(name):
    with pytest.raises(UsageError, match="A host cannot be called"):
        worker.serve_worker("tcp://server:8786", name, print)


@pytest.mark.parametrize("name", ["../../etc/passwd", "x.tflite", f"{'0' * 64}.py", f"{'0' * 64}.tflite/.."])
def test_nothing_is_written_under_another_name(own_cache, name):
    with pytest.raises(UsageError):
        keep_piece(name, "run", 0, b"")


@pytest.mark.parametrize("labels", [None, np.array([1, 0])])
def test_samples_arrive_as_they_were(tmp_path, labels):
    inputs = tuple(np.random.default_rng(seed).random((2, 3), dtype=np.float32) for seed in range(11))
    sha256, file = save_samples(Samples(inputs, labels), tmp_path)
    assert (sha256, file.name) == (sha256_of(file), f"{sha256}.npz")
    arrived = load_samples(file)
    assert arrived.sha256 == Samples(inputs, labels).sha256
    np.testing.assert_array_equal(arrived.labels, labels)
    assert save_samples(Samples(inputs, labels), tmp_path) == (sha256, file)


def test_what_an_observer_on_a_host_is_told_is_told_here():
    here, messages = Notebook(), []
    there = SendingObserver(messages.append)
    status = DeviceStatus(
        "R58M", "Phone", DeviceEvent.FINISHED, heat=Temperature("skin", 31.0, 0), interval_us=(1.0, 2.0), steps=3
    )
    there.note("a note")
    there.warn("a warning")
    there.show(status)
    there.begin("bar", 3)
    for message in messages:
        pass_on(message, here)
    assert here.notes == ["a note", "a warning"]
    assert here.statuses == [status]


# ---- what a host announces ----


def shelf_of(monkeypatch, *names):
    monkeypatch.setattr(shelf, "ready_devices", lambda: list(names))
    asked = []
    monkeypatch.setattr(shelf, "identities", lambda new: asked.extend(new) or {name: f"id of {name}" for name in new})
    return PhoneRegistry(), asked


def announced(kept):
    kept.look()
    return [(phone.name, phone.is_free) for phone in kept.announcement.phones]


def test_phones_are_announced_as_they_come_and_asked_once(monkeypatch):
    kept, asked = shelf_of(monkeypatch, "R58M", "R59M")
    assert announced(kept) == [("R58M", True), ("R59M", True)]
    monkeypatch.setattr(shelf, "ready_devices", lambda: ["R59M"])
    assert announced(kept) == [("R59M", True)]
    assert asked == ["R58M", "R59M"]
    assert Announcement.from_message(kept.announcement.to_message()) == kept.announcement


def test_a_phone_that_anybody_measures_is_not_free_and_not_asked(monkeypatch):
    kept, asked = shelf_of(monkeypatch, "R58M", "R59M", "R60M")
    with lease("R59M"):
        assert announced(kept) == [("R58M", True), ("R60M", True)]  # who it is was never asked
    announced(kept)
    with kept.taking("R58M", threading.Event()), lease("R60M"):
        assert announced(kept) == [("R58M", False), ("R60M", False), ("R59M", True)]
    assert asked == ["R58M", "R60M", "R59M"]


def test_a_host_whose_adb_server_is_away_says_so(monkeypatch):
    kept, _ = shelf_of(monkeypatch, "R58M")

    def away():
        raise DeviceError(Failure(FailureClass.DEVICE_LOST, "adb server: it hangs."))

    announced(kept)
    monkeypatch.setattr(shelf, "ready_devices", away)
    assert announced(kept) == []
    assert kept.announcement.problem == "adb server: it hangs."


def test_a_job_waits_for_one_that_was_stopped_and_not_for_one_that_goes_on():
    kept, first, second = PhoneRegistry(), threading.Event(), threading.Event()
    got_it = threading.Event()

    def take():
        with kept.taking("R58M", second):
            got_it.set()

    with kept.taking("R58M", first):
        with kept.taking("R58M", second):  # it goes on: the lease will tell
            assert kept.is_busy
        first.set()
        thread = threading.Thread(target=take)
        thread.start()
        assert not got_it.wait(0.5)
    thread.join(20)
    assert got_it.is_set()
    assert not kept.is_busy


def test_a_job_stops_when_asked_or_when_nobody_wants_it_any_more():
    unwanted = threading.Event()
    stop = JobStop(unwanted.is_set)
    assert not stop.is_set()
    assert not stop.wait(0)
    threading.Timer(0.1, unwanted.set).start()
    assert stop.wait(60)
    assert stop.is_set()
    asked = JobStop(lambda: False)
    asked.set()
    assert asked.wait()


# ---- whom a sweep sees ----


class FakeClient:
    """A dask client of a scheduler that knows some workers."""

    def __init__(self, **hosts):
        self.workers = {
            f"tcp://{name}:1": {"name": name, "metrics": {"harness": announcement.to_message()}}
            for name, announcement in hosts.items()
        }

    def scheduler_info(self):
        return {"workers": self.workers | {"tcp://other:1": {"name": "other", "metrics": {}}}}

    def subscribe_topic(self, topic, handler):
        pass


def phones(*names, is_free=True, version=None):
    shelved = tuple(LabPhoneInfo(name, f"id of {name}", is_free) for name in names)
    return Announcement(version or engine.version(), shelved)


def site_of(notebook=None, **hosts):
    return LabSource(Lab("tcp://server:8786", FakeClient(**hosts)), SHARED, notebook or Notebook())


def test_phones_are_named_by_serial_and_by_host_only_where_they_must_be():
    site = site_of(lab1=phones("R58M", "127.0.0.1:6100"), lab2=phones("R59M", "emulator-5554"))
    assert list(site.phones()) == ["R58M", "127.0.0.1:6100@lab1", "R59M", "emulator-5554@lab2"]
    assert site.targets([]).names == tuple(site.phones())
    assert site.targets([]).takes_new
    assert site.targets(["R59M"]).names == ("R59M",)
    assert not site.targets(["R59M"]).takes_new


def test_a_phone_that_two_workers_announce_is_one():
    assert [phone.host.name for phone in site_of(b=phones("R58M"), a=phones("R58M")).phones().values()] == ["a"]


def test_who_comes_and_who_is_back():
    site = site_of(lab1=phones("R58M", "R59M"), lab2=phones("R60M", is_free=False))
    arrivals = site.arrivals(takes_new=True)
    assert arrivals.newcomers(["R58M"]) == ["R59M"]
    assert arrivals.returned(["R58M", "R60M", "R61M"]) == ["R58M"]
    assert site.arrivals(takes_new=False).newcomers([]) == []


def test_hosts_of_another_version_are_left_out_and_told_once():
    notebook = Notebook()
    site = site_of(notebook, lab1=phones("R58M"), lab2=phones("R59M", version="0.0.1"))
    assert [list(site.phones()), list(site.phones())] == [["R58M"], ["R58M"]]
    assert notebook.notes == ["lab2 runs harness 0.0.1: its phones are left out."]
    with pytest.raises(UsageError, match=r"This is harness .*, but lab2 runs harness 0\.0\.1\."):
        client._require_hosts(Lab("tcp://server:8786", FakeClient(lab1=phones("R58M"), lab2=phones(version="0.0.1"))))


def test_a_lab_without_hosts_or_phones_says_so():
    with pytest.raises(MissingPrerequisiteError, match=r"No host has joined the lab at tcp://server:8786\."):
        client._require_hosts(Lab("tcp://server:8786", FakeClient()))
    silent = Announcement(engine.version(), problem="The program adb was not found.")
    with pytest.raises(MissingPrerequisiteError, match=r"any host of the lab \(lab1, lab2\)\. lab2: The program adb"):
        site_of(lab1=phones(), lab2=silent).targets([])


def test_a_scheduler_that_does_not_answer_has_no_phones():
    site = site_of(lab1=phones("R58M"))
    site._lab._client.scheduler_info = lambda: 1 / 0
    with pytest.raises(HostLostError, match="the scheduler does not answer"):
        site.phones()
    assert site.arrivals(takes_new=True).newcomers([]) == []


def test_a_host_that_is_lost_while_a_job_runs_is_noticed():
    fake = FakeClient(lab1=phones("R58M"))
    lab = Lab("tcp://server:8786", fake)
    (host,) = lab.hosts()

    class Endless:
        released = False

        def done(self):
            return False

        def release(self):
            self.released = True

    future = Endless()
    fake.submit = lambda *_, **options: future if options["workers"] == [host.address] else None

    def pull_the_plug():
        fake.workers = {}

    with pytest.raises(HostLostError, match="the connection to lab1 was lost"):
        lab.do(host, print, while_waiting=pull_the_plug)
    assert future.released
    assert isinstance(host, LabHost)


def test_a_phone_whose_host_is_lost_time_after_time_is_left_out(tmp_path):
    site, sweep = site_of(lab1=phones("R58M")), ScriptedSweep(tmp_path, most_faults=1)
    site._lab._client.workers = {}
    context = sweep._context()
    assert site.measure(context, "R58M")
    assert not site.arrivals(takes_new=True).returned(["R58M"])  # what is known may be older than the loss
    site._lab._asked_at = float("-inf")
    assert not site.measure(context, "R58M")
    (device,) = frame(sweep.store.devices(SWEEP)).to_dict("records")
    assert device["failure_class"] == "device_lost"
    assert "R58M is left out of this sweep after 2 faults" in device["failure_message"]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("results", "spec", "told"),
    [
        ("results", {}, "The hosts of a lab cannot write into results"),
        ("results.sqlite3", {}, "cannot write into results.sqlite3"),
        (SHARED, {"hosts": ["lab1"]}, "--lab and hosts exclude each other"),
        (SHARED, {"per": "model"}, 'per = "model" shares cells between the phones of one computer'),
        (SHARED, {"devices": ["virtual:pixel-8"]}, "virtual:pixel-8 is no phone of a lab"),
        (SHARED, {"devices": ["host"]}, "host is no phone of a lab"),
    ],
)
def test_a_sweep_that_hosts_cannot_do_together_is_refused(results, spec, told):
    with (
        pytest.raises(UsageError, match=told),
        open_source("tcp://server:1", results, load_sweep_spec(None, spec), None),
    ):
        pass


def test_a_lab_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPrerequisiteError, match="a package that is not installed: distributed") as caught:
        engine.require_engine()
    assert "harness[lab]" in caught.value.advice


def test_no_lab_where_nobody_listens(harness_cli):
    finished = harness_cli("sweep", "--lab", "tcp://127.0.0.1:9", "--results", SHARED)
    assert finished.returncode == 3
    assert finished.stderr.startswith("error: No lab is open at tcp://127.0.0.1:9")


def test_a_variants_parcel_is_named_by_its_content():
    assert parcel_of(card("int8")) == f"{card('int8').sha256}.tflite"
