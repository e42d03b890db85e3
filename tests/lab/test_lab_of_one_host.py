"""A lab of one host on this computer: a scheduler, a worker, a PostgreSQL server, sweeps from the command line."""

import json

import pytest
from lab_processes import Host, Process, harness, write_spec

from harness.results.store import Store

pytestmark = pytest.mark.virtual_phone
INVOCATIONS = 6


@pytest.fixture
def scheduler(tmp_path):
    process = Process(harness("lab", "scheduler", "--host", "127.0.0.1", "--port", "0"), tmp_path / "scheduler.log", {})
    said = process.says("The lab is open at ")
    yield said.split("The lab is open at ")[1].split()[0].rstrip(".")
    process.kill()


@pytest.fixture
def host(tmp_path, phone_ready, adb):
    host = Host("lab1", tmp_path / "lab1")
    yield host
    host.stop()


def start_sweep(tmp_path, scheduler, url, *more):
    return Process(
        harness("sweep", *more, "--lab", scheduler, "--results", url, "--json"), tmp_path / "sweep.log",
        {"HARNESS_CACHE": str(tmp_path / "cache-here")},
    )  # fmt: skip


def test_the_phones_of_a_host_are_measured_there(tmp_path, scheduler, host, shared_store_url):
    serials = host.start_phones("left", "right")
    worker = host.start_worker(scheduler)
    worker.says("is in the lab")
    sweep = start_sweep(tmp_path, scheduler, shared_store_url, str(write_spec(tmp_path / "spec.toml")))
    assert sweep.wait() == 0, sweep.said
    rows = json.loads(sweep.said[sweep.said.index("{") :])["rows"]
    assert {row["serial"]: row["invocations_ok"] for row in rows} == {
        f"{serial}@lab1": INVOCATIONS for serial in serials
    }
    assert all(f"{serial}@lab1" in sweep.said for serial in serials)
    (parcel,) = (tmp_path / "lab1" / "cache" / "lab").iterdir()
    before = parcel.stat().st_mtime_ns
    again = start_sweep(tmp_path, scheduler, shared_store_url, str(tmp_path / "spec.toml"))
    assert again.wait() == 0, again.said
    assert parcel.stat().st_mtime_ns == before  # it was there, and was not sent again
    with Store.open(shared_store_url) as store:
        assert len(store.sweeps()) == 2
