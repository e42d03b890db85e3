"""Results, caches and disks that are removed, replaced, overwritten, locked or full, mostly in mid-sweep."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from hostile_tries.bench import PATIENCE_S, Bench, Ended, attempt, no_number

HOST = {"on_host": True, "invocations": 12}
PULL = """
import sys
from harness.devices.adb.discovery import open_device
from harness.files import scratch_folder
with scratch_folder() as folder:
    open_device(sys.argv[1]).pull("/data/large", folder / "output")
"""
"""Outputs of a model are pulled like this; those of a model as small as here would take no time."""


def _is_whole(bench: Bench, ended: Ended) -> None:
    """Fail unless all rows are stored, or harness said that they are not."""
    if ended.code in (0, 1):
        shown = bench.cli("results", "show", "latest", "--results", bench.results, "--json")
        if shown.code == 0 and shown.rows and shown.rows[0]["invocations_ok"] == HOST["invocations"]:
            return
    assert ended.code, f"exit code 0, and the results are not there: {ended.err[-200:]}"
    assert "error: The results" in ended.err, f"rows are missing, and nothing was said: {ended.err[-200:]}"


@attempt(25, "`results prune --keep 0` in a loop while a sweep runs", "the running sweep is spared")
def prune_loop(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        for _ in range(2):
            bench.cli("results", "prune", "--keep", "0", "--yes", "--results", bench.results).is_clean()
        ended = bench.end(child)
    assert ended.is_clean(0, 1).rows[0]["invocations_ok"] == HOST["invocations"]


@attempt(26, "the logs are removed in mid-sweep", "rows are kept; a missing log is one sentence")
def logs_removed(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        for folder in bench.results.glob("*/logs"):
            shutil.rmtree(folder, ignore_errors=True)
        ended = bench.end(child)
    assert ended.is_clean(0, 1).rows[0]["invocations_ok"] == HOST["invocations"]
    results = ("--results", bench.results)
    explained = bench.cli("explain", "as-is", "cpu", *results, "--json").is_clean(0)
    log = json.loads(explained.out)["invocations"][0]["log_path"]
    bench.cli("results", "log", log, *results).refuses()


@attempt(27, "the results folder is removed in mid-sweep", "on disk, or said")
def results_removed(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        shutil.rmtree(bench.results, ignore_errors=True)
        ended = bench.end(child).is_clean()
    _is_whole(bench, ended)


@attempt(28, "the store is replaced by another one in mid-sweep", "on disk, or said")
def store_replaced(bench: Bench) -> None:
    from harness.store.store import Store

    other = bench.new_folder()
    Store.open(other).close()
    with bench.sweeping(**HOST) as child:
        (other / "results.sqlite3").replace(bench.results / "results.sqlite3")
        ended = bench.end(child).is_clean()
    _is_whole(bench, ended)


@attempt(29, "the store is cut to nothing in mid-sweep", "nothing is lost, or it is said")
def store_truncated(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        os.truncate(bench.results / "results.sqlite3", 0)
        ended = bench.end(child).is_clean()
    _is_whole(bench, ended)


@attempt(30, "40 kB of noise over the store in mid-sweep", "nothing is lost, or it is said")
def store_overwritten(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        with (bench.results / "results.sqlite3").open("r+b") as file:
            file.write(os.urandom(40_000))
        ended = bench.end(child).is_clean()
    _is_whole(bench, ended)


@attempt(31, "another program locks the store for 75 s", "a sentence, and resume is whole", slow=True)
def store_locked(bench: Bench) -> None:
    with bench.sweeping(**HOST) as child:
        connection = sqlite3.connect(bench.results / "results.sqlite3", timeout=30, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        threading.Timer(75, connection.rollback).start()
        ended = bench.end(child).is_clean(0, 1)
        time.sleep(1)
    if ended.code:
        ended.says("is in use")
        bench.resume()
    assert bench.show()[0]["invocations_ok"] == HOST["invocations"]


@attempt(32, "the disk of the results fills in mid-sweep", "a sentence, and resume is whole")
def results_disk_full(bench: Bench) -> None:
    disk = bench.space("3m")
    try:
        with bench.sweeping(results=disk / "results", **HOST) as child:
            filler = disk / "filler"
            with filler.open("wb") as file, suppress(OSError):
                file.write(bytes(4_000_000))
            bench.end(child).refuses(1)
        filler.unlink()
        bench.resume()
    finally:
        bench.drop(disk)


@attempt(33, "a disk of 400 kB for the cache", "a sentence")
def cache_disk_full(bench: Bench) -> None:
    disk = bench.space("400k")
    try:
        command = bench.sweep_command(on_host=True, samples=4)
        shutil.copytree(Path(os.environ["HARNESS_CACHE"], "tools"), disk / "tools")
        with (disk / "filler").open("wb") as file, suppress(OSError):
            file.write(bytes(4_000_000))
        bench.cli(*command, environment={"HARNESS_CACHE": str(disk)}).is_clean(1, 3).says("No space")
    finally:
        bench.drop(disk)


@attempt(34, "the caches of variants and references are removed in mid-sweep", "goes on, or says so")
def caches_removed(bench: Bench) -> None:
    with bench.sweeping(on_host=True, invocations=8) as child:
        for name in ("variants", "reference"):
            shutil.rmtree(Path(os.environ["HARNESS_CACHE"], name), ignore_errors=True)
        ended = bench.end(child)
    (row,) = ended.is_clean(0, 1).rows
    if row["invocations_ok"] < 8:
        no_number(row)
        assert "Cannot confirm what was measured" in row["failure_message"], row["failure_message"]


@attempt(55, "prune of a sweep folder that is a symbolic link", "nothing outside is touched")
def prune_symlink(bench: Bench) -> None:
    bench.sweep(on_host=True).is_clean()
    (sweep,) = [path for path in bench.results.iterdir() if path.is_dir() and path.name[:2] == "20"]
    elsewhere = bench.new_folder() / "mine"
    sweep.rename(elsewhere)
    (elsewhere / "letter.txt").write_text("mine")
    sweep.symlink_to(elsewhere)
    for _ in range(2):
        ended = bench.cli("results", "prune", "--keep", "0", "--yes", "--results", bench.results).is_clean()
        assert "None." not in ended.said
    assert (elsewhere / "letter.txt").read_text() == "mine"


@attempt(60, "kill -9 during a pull", "nothing stays in the temporary folder after the next start", slow=True)
def killed_pull(bench: Bench) -> None:
    temporary = Path(os.environ["TMPDIR"])
    bench.device.run_script("head -c 40000000 /dev/zero >/data/large", timeout_s=20)
    bench.phone.faults.slow_cable(300_000)
    child = bench.start([sys.executable, "-c", PULL, bench.phone.serial])
    deadline = time.monotonic() + PATIENCE_S
    while not list(temporary.rglob("*.part")):
        assert time.monotonic() < deadline, "nothing was pulled"
        assert child.poll() is None, child.communicate()[1][-300:]
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert list(temporary.rglob("*.part")), "the kill came too late"
    bench.phone.faults.slow_cable(None)
    time.sleep(6)
    bench.sweep(samples=4).is_clean()
    left = list(temporary.rglob("*.part"))
    assert not left, left
    assert subprocess.run(["du", "-sk", temporary], capture_output=True, check=True).stdout.split()[0] < b"9000"
