"""Phones that drip, reboot, and say things that are made to be run or shown."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from hostile_tries.bench import Bench, Ended, SkippedError, attempt

SAYINGS = {
    "ro.product.model": "$(touch {witness}) `touch {witness}` ; touch {witness}",
    "ro.product.manufacturer": "<script>alert(1)</script> [/red] @@harness:",
    "ro.soc.model": "\x1b[31mred\x1b]0;title\x07",
    "ro.build.version.release": "=1+1",
    "ro.build.version.sdk": "²",
    "ro.hardware": "x" * 50_000,
}
NOISY_LOG = "printf '\\033[31m[/red] <b> \\000 \\377\\376 @@harness: x\\n'"


@attempt(13, "2 MB to push over a cable of 60 kB/s", "a push has a limit", slow=True)
def slow_push(bench: Bench) -> None:
    from harness.errors import DeviceError

    file, device = bench.new_folder() / "large", bench.device
    file.write_bytes(os.urandom(2_000_000))
    bench.phone.faults.slow_cable(60_000)
    started = time.monotonic()
    try:
        device.push(file)
    except DeviceError as error:
        assert "time limit" in str(error), error
    else:
        raise AssertionError("pushed, whatever the limit")
    assert time.monotonic() - started < 40


def _say(bench: Bench) -> Path:
    witness = bench.folder / "witness"
    for name, value in SAYINGS.items():
        bench.phone.controls.set_property(name, value.format(witness=witness))
    return witness


@attempt(18, "properties with shell code, markup and ESC: devices, doctor, sweep", "quoted; nothing runs")
def sayings(bench: Bench) -> None:
    witness = _say(bench)
    ended = [bench.cli("devices"), bench.cli("devices", "--json"), bench.cli("doctor"), bench.sweep()]
    for one in ended:
        one.is_clean()
        assert "\x1b" not in one.said.replace("\\u001b", ""), "ESC came through"
    assert str(witness) in ended[1].out, "the phone says nothing odd"
    assert not witness.exists()
    assert bench.device.run(["ls", str(witness)], timeout_s=9).exit_code != 0


@attempt(19, "the same in a report", "no live markup")
def sayings_in_a_report(bench: Bench) -> None:
    _say(bench)
    bench.sweep().is_clean()
    page = bench.new_folder() / "report.html"
    bench.cli("report", "latest", "--results", bench.results, "-o", page).is_clean(0, 1)
    shown = page.read_text()
    assert "alert(1)" in shown, "the phone says nothing odd"
    assert "<script>alert(1)" not in shown


@attempt(20, "the same in CSV, Markdown, LaTeX, JSON and Parquet", "escaped")
def sayings_in_exports(bench: Bench) -> None:
    _say(bench)
    bench.sweep().is_clean()
    for form in ("csv", "markdown", "latex", "json", "parquet"):
        file = bench.new_folder() / "export"
        export = ("results", "export", "latest", "--results", bench.results, "--format", form, "-o", file)
        bench.cli(*export).is_clean(0)
        data = file.read_bytes()
        assert b"\x1b[31m" not in data, form
        assert form not in ("csv", "json", "parquet") or b"touch " in data, f"{form}: the phone says nothing odd"
        if form == "csv":
            assert b"\n=" not in data and b",=" not in data, "a formula"
        if form == "json":
            json.loads(data)


@attempt(21, "the same in MLflow runs", "safe names")
def sayings_in_trackers(bench: Bench) -> None:
    _say(bench)
    bench.sweep().is_clean()
    file = bench.new_folder() / "runs.sqlite3"
    ended = bench.cli("results", "export", "latest", "--results", bench.results, "--format", "mlflow", "-o", file)
    ended.is_clean(0, 2, 3)
    if ended.code:
        assert "not installed" in ended.said, ended.said[-200:]
        raise SkippedError("no MLflow")
    with closing(sqlite3.connect(file)) as store:
        assert list(store.execute("select 1 from params where value like '%touch %'")), "the phone says nothing odd"
        names = [name for (name,) in store.execute("select name from runs")]
    assert names
    assert not any("<" in name or "\x1b" in name for name in names), names


@attempt(22, "a log with ESC, markup, NUL and bad UTF-8: table, explain, parse-log", "safe")
def noisy_log(bench: Bench) -> None:
    bench.sweep(NOISY_LOG).is_clean()
    results = ("--results", bench.results)
    ended = [bench.cli("explain", "as-is", "cpu", *results), bench.cli("results", "show", "latest", *results)]
    log = bench.new_folder() / "log.txt"
    log.write_bytes(b"\x1b[31m[/red]\0\xff\xfe\nInference timings in us: Init: 1\n")
    ended += [bench.cli("parse-log", log), bench.cli("parse-log", log, "--json")]
    for one in ended:
        one.is_clean()
        assert one.said.strip(), "nothing was shown"
        assert "\x1b[31m" not in one.said, "ESC came through"


@attempt(23, "`results log` of such a log on a terminal", "no ESC reaches the terminal")
def noisy_log_on_a_terminal(bench: Bench) -> None:
    bench.sweep(NOISY_LOG).is_clean()
    path = bench.cli("explain", "as-is", "cpu", "--results", bench.results, "--json").is_clean()
    log = json.loads(path.out)["invocations"][0]["log_path"]
    seen = _on_a_terminal("results", "log", log, "--results", str(bench.results))
    assert "[/red]" in seen, seen[-200:]
    assert "\x1b[31m" not in seen, "ESC reached the terminal"


def _on_a_terminal(*arguments: str) -> str:
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "harness", *arguments], stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen = bytearray()
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the end of a terminal
            break
    child.wait()
    os.close(ours)
    return seen.decode(errors="replace")


@attempt(24, "the phone reboots every few seconds", "goes on, and every row is good", slow=True)
def reboots(bench: Bench) -> None:
    over = threading.Event()
    ended: list[Ended] = []

    def reboot() -> None:
        bench.await_count(2)
        while not over.is_set():
            bench.phone.faults.reboot(1)
            reboots_at.append(len(bench.counter.read_bytes()))
            over.wait(8)

    reboots_at: list[int] = []
    command = bench.sweep_command("sleep 0.5", invocations=8)
    thread = threading.Thread(target=reboot)
    thread.start()
    try:
        ended.append(bench.cli(*command, "--no-prepare"))
    finally:
        over.set()
        thread.join()
        time.sleep(3)
    assert reboots_at, "it did not reboot"
    assert reboots_at[0] < 8, "it rebooted when all was measured"
    (row,) = ended[0].is_clean().rows
    if row["invocations_ok"] < 5:
        (row,) = bench.resume().rows
    assert row["latency_median_us"] == 900, row
