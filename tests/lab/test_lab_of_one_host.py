"""A lab of one host on this computer: a scheduler, a worker, a PostgreSQL server, sweeps from the command line."""

import itertools
import json
import socket
from datetime import datetime, timedelta

import pytest
from lab_processes import INVOCATIONS, MODEL, Host, Process, harness, until, write_spec
from stored_tables import frame

from harness.benchmark.registry import ToolRegistry
from harness.store.store import Store

pytestmark = [pytest.mark.virtual_phone, pytest.mark.timeout(600), pytest.mark.slow]


@pytest.fixture
def scheduler(tmp_path):
    process = Process(harness("lab", "scheduler", "--host", "127.0.0.1", "--port", "0"), tmp_path / "scheduler.log", {})
    said = process.says("The lab is open at ")
    yield said.split("The lab is open at ")[1].split()[0].rstrip(".")
    process.kill()


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def host(tmp_path, phone_ready, adb):
    host = Host("lab1", tmp_path / "lab1")
    yield host
    host.stop()


_sweeps = itertools.count(1)


def start_sweep(tmp_path, scheduler, url, *more):
    return Process(
        harness("sweep", *more, "--lab", scheduler, "--results", url, "--json"),
        tmp_path / f"sweep{next(_sweeps)}.log",
        {"HARNESS_CACHE": str(tmp_path / "cache-here")},
    )


def rows_of(sweep):
    return json.loads(sweep.said[sweep.said.rindex("\n{\n") :])["rows"]


def good(url):
    """Count the good processes of the newest sweep."""
    with Store.open(url) as store:
        if not (sweeps := store.sweeps()):
            return 0
        stored = frame(store.invocations(sweeps[0].id))
    return int(stored["failure_class"].isna().sum())


def test_the_phones_of_a_host_are_measured_there_and_files_travel_once(tmp_path, scheduler, host, shared_store_url):
    serials = host.start_phones("left", "right")
    host.start_worker(scheduler).says("is in the lab")
    spec = str(write_spec(tmp_path / "spec.toml"))
    sweep = start_sweep(tmp_path, scheduler, shared_store_url, spec)
    assert sweep.wait() == 0, sweep.said
    names = [f"{serial}@lab1" for serial in serials]
    assert {row["serial"]: row["invocations_ok"] for row in rows_of(sweep)} == dict.fromkeys(names, INVOCATIONS)
    assert all(f"{name}: step" in sweep.said for name in names)  # told from there to here
    (parcel,) = (tmp_path / "lab1" / "cache" / "lab").iterdir()
    before = parcel.stat().st_mtime_ns
    later = f"{datetime.now() + timedelta(hours=2):%H:%M}"
    night = Process(
        harness("nightly", spec, "--lab", scheduler, "--results", shared_store_url, "--until", later),
        tmp_path / "night.log",
        {"HARNESS_CACHE": str(tmp_path / "cache-here")},
    )
    assert night.wait() == 0, night.said
    assert all(f"{name}: step" in night.said for name in names)
    assert parcel.stat().st_mtime_ns == before
    assert good(shared_store_url) == 2 * INVOCATIONS


def let_one_be_measured(host, url):
    """Let one more process run on the host's only phone, and wait until it is stored."""
    before = good(url)
    host.let_one_go("alone")
    until(lambda: good(url) > before, "a process more")


def test_a_sweep_that_is_interrupted_or_killed_stops_on_its_hosts_and_is_carried_on(
    tmp_path, scheduler, host, shared_store_url
):
    host.start_phones("alone")
    host.hold("alone")
    worker = host.start_worker(scheduler)
    worker.says("is in the lab")
    sweep = start_sweep(tmp_path, scheduler, shared_store_url, str(write_spec(tmp_path / "spec.toml")))
    let_one_be_measured(host, shared_store_url)
    sweep.interrupt()
    sweep.says("finishing the running invocations")
    host.let_one_go("alone")
    assert sweep.wait() == 4, sweep.said
    assert good(shared_store_url) == 2
    killed = start_sweep(tmp_path, scheduler, shared_store_url, "--resume", "latest")
    let_one_be_measured(host, shared_store_url)
    killed.kill()
    resumed = start_sweep(tmp_path, scheduler, shared_store_url, "--resume", "latest")
    host.let_go("alone")
    assert resumed.wait() == 0, resumed.said
    assert good(shared_store_url) == INVOCATIONS
    worker.interrupt()
    assert worker.wait() == 4
    assert "finishing what is under way" in worker.said


def test_a_worker_that_is_killed_parks_its_phone_and_a_scheduler_that_is_killed_ends_the_sweep(
    tmp_path, host, shared_store_url, unused_port
):
    command = harness("lab", "scheduler", "--host", "127.0.0.1", "--port", str(unused_port))
    first = Process(command, tmp_path / "scheduler.log", {})
    first.says("The lab is open at ")
    address = f"tcp://127.0.0.1:{unused_port}"
    host.start_phones("alone")
    host.hold("alone")
    worker = host.start_worker(address)
    worker.says("is in the lab")
    sweep = start_sweep(tmp_path, address, shared_store_url, str(write_spec(tmp_path / "spec.toml")))
    let_one_be_measured(host, shared_store_url)
    worker.kill()
    assert sweep.wait() == 1, sweep.said
    assert "@lab1: the connection to lab1 was lost." in sweep.said
    second_worker = host.start_worker(address)
    until(lambda: second_worker.said.count("is in the lab") == 2, "the new worker")
    resumed = start_sweep(tmp_path, address, shared_store_url, "--resume", "latest")
    let_one_be_measured(host, shared_store_url)
    first.kill()
    assert resumed.wait() == 1, resumed.said
    host.let_go("alone")
    third = Process(command, tmp_path / "scheduler2.log", {})
    third.says("The lab is open at ")
    until(lambda: second_worker.said.count("is in the lab") == 3, "the worker's return")
    completed = start_sweep(tmp_path, address, shared_store_url, "--resume", "latest")
    assert completed.wait() == 0, completed.said
    assert good(shared_store_url) == INVOCATIONS
    third.kill()


@pytest.mark.official_tool
def test_outputs_are_checked_on_the_host_with_samples_that_travelled(
    tmp_path, scheduler, host, shared_store_url, official_tools
):
    registry = ToolRegistry(host.folder / "cache" / "tools")
    registry.remove("benchmark_model")
    registry.add(official_tools)
    host.start_phones("alone", vendor=official_tools)
    host.start_worker(scheduler).says("is in the lab")
    spec = tmp_path / "spec.toml"
    spec.write_text(
        f'model = "{MODEL}"\nrecipes = ["as-is"]\ndelegates = ["cpu"]\n[measurement]\ninvocations = 5\nruns = 5\n'
        "warmup_max_s = 0\ninit_pairs = 0\nmemory_invocations = 0\nop_profile_invocations = 0\n"
    )
    sweep = start_sweep(tmp_path, scheduler, shared_store_url, str(spec))
    assert sweep.wait() == 0, sweep.said
    (row,) = rows_of(sweep)
    assert row["output_check"] is True
    assert {file.suffix for file in (host.folder / "cache" / "lab").iterdir()} == {".tflite", ".npz"}
