"""Measure, export and report with harness 0.1, and pack all of it into `data/stored-by-0.1.tar.xz`.

The fixtures are made once, with a checkout of the commit that their README names:

    git worktree add ../harness-0.1 bf61f0b
    HARNESS_TFLITE_TOOLS=... python tests/contract/make_fixtures.py ../harness-0.1

Everything is real: sweeps on a virtual phone with the official tool, and on this host with LiteRT's Python benchmark.
A new fixture gets new names for its sweeps, so `test_stored_by_0_1.py` reads them from `sweeps.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
WORK = Path("/tmp/harness-contract")
"""Fixed, so that no path of the computer that made the fixtures is stored in them."""
STORE = "results/results.sqlite3"
PHONE = "contract"
SAMPLES = 50
PROSE = ("failure_message", "failure_advice")
"""Summary columns that may hold sentences of harness's own; those may be worded better one day."""
FEWEST_BEFORE_INTERRUPT = 5

NETWORK = """\
name = "network"
[source]
kind = "tflite"
path = "network.tflite"
[preprocessing]
scale = 0.00784313725490196
offset = -1.0
[data]
path = "samples.npz"
licence = "MIT"
origin = "Fashion-MNIST, halved"
"""
PRUNED = """\
name = "pruned"
[[steps]]
technique = "pruning"
settings = {{ sparsity = {sparsity}, epochs = 0 }}
"""
MEASUREMENT = f"""
[measurement]
invocations = 5
runs = 10
init_pairs = 1
warmup_max_s = 0
accuracy_samples = {SAMPLES}
"""
PHONE_SWEEP = f"""\
model = "inputs/network.toml"
recipes = ["as-is", "prune50-untrained", "qat-int8"]
delegates = ["cpu", "cpu-builtin", "gpu", "nnapi"]
{MEASUREMENT}
sustained_s = 1.0
sustained_window_s = 0.25
"""
HOST_SWEEP = f"""\
model = "inputs/network.toml"
recipes = ["as-is", "inputs/pruned.toml"]
devices = ["host"]
delegates = ["cpu", "gpu"]
{MEASUREMENT}
"""
INTERRUPTED_SWEEP = f"""\
model = "inputs/network.toml"
recipes = ["as-is", "prune50-untrained"]
devices = ["host"]
delegates = ["cpu"]
{MEASUREMENT}
"""


class Harness:
    """The command line of the checkout, in a folder and with a cache of its own."""

    def __init__(self, checkout: Path) -> None:
        for name in ("harness", "device_profiles", "models"):
            shutil.copytree(checkout / name, WORK / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (WORK / "python").symlink_to(sys.prefix)
        self._python = str(WORK / "python" / "bin" / "python")
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(WORK / "checkout"),
            "HARNESS_CACHE": str(WORK / "cache"),
            "HARNESS_RESULTS": "results",
            "HARNESS_LEASES": str(WORK),
            "HOME": str(WORK),
            "ANDROID_ADB_SERVER_PORT": str(free_port()),
            "ADB_MDNS": "0",
            "COLUMNS": "160",
        }

    def run(self, *arguments: str, allowed: tuple[int, ...] = (0,), **environment: str) -> str:
        """Run one command to its end; return what it printed on stdout."""
        process = self.start(*arguments, **environment)
        printed, _ = process.communicate(timeout=900)
        if process.returncode not in allowed:
            raise SystemExit(f"harness {' '.join(arguments)} ended with exit code {process.returncode}")
        return printed

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start one command."""
        print("harness", *arguments, flush=True)
        return subprocess.Popen(
            [self._python, "-m", "harness", *arguments],
            cwd=WORK,
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def adb(self, *arguments: str) -> None:
        """Run adb on the adb server that the commands use."""
        subprocess.run(["adb", *arguments], env=self._environment, check=True, timeout=60)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> None:
    """Make all fixtures and pack them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a checkout of harness 0.1")
    checkout = parser.parse_args().checkout.resolve()
    WORK.mkdir()  # fails if another run is using it
    try:
        write_inputs(checkout)
        harness = Harness(checkout)
        sweeps = measure(harness)
        (WORK / "sweeps.json").write_text(json.dumps(sweeps, indent=1))
        publish(harness, sweeps)
        pack()
    finally:
        shutil.rmtree(WORK)


def write_inputs(checkout: Path) -> None:
    """Write the model, its data and the specs; sweeps store their paths relative to the working folder."""
    inputs = WORK / "inputs"
    inputs.mkdir()
    data = checkout / "tests" / "accuracy" / "data"
    shutil.copyfile(data / "pooled-float.tflite", inputs / "network.tflite")
    shutil.copyfile(data / "samples.npz", inputs / "samples.npz")
    specs = {"phone": PHONE_SWEEP, "host": HOST_SWEEP, "interrupted": INTERRUPTED_SWEEP, "network": NETWORK}
    for name, text in specs.items():
        (inputs / f"{name}.toml").write_text(text)


def measure(harness: Harness) -> dict[str, object]:
    """Run every sweep; return their ids by what they are."""
    with virtual_phone(harness) as serial:
        noise = measure_noise(harness, serial)
        tools = {"HARNESS_CACHE": str(WORK / "phone-cache"), "ANDROID_SERIAL": serial}
        one_failed = (0, 1)
        device = ("--device", serial)
        first = sweep(harness, "inputs/phone.toml", *device, allowed=one_failed, **tools)
        absent = ("--device", "R58M0000000")
        second = sweep(harness, "inputs/phone.toml", *device, *absent, "--seed", "2", allowed=one_failed, **tools)
    return {
        "noise": noise,
        "first_night": first,
        "second_night": second,
        "resumed": measure_resumed(harness),
        "interrupted": measure_interrupted(harness),
    }


@contextmanager
def virtual_phone(harness: Harness) -> Iterator[str]:
    """Run a phone with the official tools; yield its serial."""
    cache = {"HARNESS_CACHE": str(WORK / "phone-cache")}
    archive = shutil.copy(os.environ["HARNESS_TFLITE_TOOLS"], WORK)
    harness.run("tools", "add", archive, **cache)
    started = json.loads(harness.run("phone", "start", PHONE, "--json", **cache))
    serial = str(started["serial"])
    try:
        harness.adb("connect", serial)
        yield serial
        harness.adb("disconnect", serial)
    finally:
        harness.run("phone", "stop", PHONE, **cache)
        harness.adb("kill-server")


def measure_noise(harness: Harness, serial: str) -> list[str]:
    """Measure the phone against itself, so that comparisons have a noise floor."""
    harness.run(
        "noise", "--device", serial, "--sweeps", "3", "--preset", "quick", "--model", "inputs/network.toml",
        HARNESS_CACHE=str(WORK / "phone-cache"),
    )  # fmt: skip
    return [row["id"] for row in listed(harness)]


def measure_resumed(harness: Harness) -> str:
    """Sweep, change a recipe and a setting, and resume: cells are set aside, and one is measured in two sessions."""
    recipe = WORK / "inputs" / "pruned.toml"
    recipe.write_text(PRUNED.format(sparsity=0.5))
    first = sweep(harness, "inputs/host.toml", allowed=(0, 1))
    recipe.write_text(PRUNED.format(sparsity=0.75))
    return sweep(harness, "--resume", first, "--invocations", "6", allowed=(0, 1))


def measure_interrupted(harness: Harness) -> str:
    """Interrupt a sweep when some, but not all, of its invocations are stored."""
    known = {row["id"] for row in listed(harness)}
    process = harness.start("sweep", "inputs/interrupted.toml")
    while stored_invocations(known) < FEWEST_BEFORE_INTERRUPT:
        if process.poll() is not None:
            raise SystemExit("The sweep ended before it could be interrupted.")
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    (interrupted,) = {row["id"] for row in listed(harness)} - known
    return interrupted


def stored_invocations(known: set[str]) -> int:
    """Return how many latency processes are stored of sweeps that are not known."""
    with closing(sqlite3.connect(f"file:{WORK / STORE}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT sweep_id FROM invocations WHERE purpose = 'latency'").fetchall()
    return sum(sweep_id not in known for (sweep_id,) in rows)


def sweep(harness: Harness, *arguments: str, allowed: tuple[int, ...] = (0,), **environment: str) -> str:
    """Run a sweep; return its id."""
    return str(json.loads(harness.run("sweep", *arguments, "--json", allowed=allowed, **environment))["sweep"]["id"])


def listed(harness: Harness) -> list[dict[str, str]]:
    """Return what `results list` lists."""
    rows: list[dict[str, str]] = json.loads(harness.run("results", "list", "--json"))["sweeps"]
    return rows


def publish(harness: Harness, sweeps: dict[str, object]) -> None:
    """Write every export and every JSON document of the store."""
    with closing(sqlite3.connect(WORK / STORE)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a journal beside it
    (WORK / "exports").mkdir()
    for rows in ("summary", "invocations"):
        for form in ("csv", "json", "parquet", "markdown", "latex"):
            harness.run("results", "export", "all", "--rows", rows, "--format", form, "-o", f"exports/{rows}.{form}")
    columns = json.loads((WORK / "exports" / "summary.json").read_text())["columns"]
    stored = ",".join(name for name in columns if name not in PROSE)
    for form in ("csv", "markdown"):
        output = f"exports/summary-without-prose.{form}"
        harness.run("results", "export", "all", "--columns", stored, "--format", form, "-o", output)
    (WORK / "documents").mkdir()
    for name, command in documents(sweeps).items():
        (WORK / "documents" / f"{name}.json").write_text(
            json.dumps({"command": command, "document": json.loads(harness.run(*command, allowed=(0, 1)))})
        )
    nights = [str(sweeps[name]) for name in ("second_night", "first_night")]
    harness.run("report", *nights, "-o", "report.html")


def documents(sweeps: dict[str, object]) -> dict[str, list[str]]:
    """Return the commands whose JSON is kept, by a name for each."""
    first, second, resumed, interrupted = (
        str(sweeps[name]) for name in ("first_night", "second_night", "resumed", "interrupted")
    )
    shown = {f"show-{name}": ["results", "show", str(sweep_id)] for name, sweep_id in sweeps.items() if name != "noise"}
    explained = {
        f"explain-{variant}-{delegate}": ["explain", second, variant, delegate]
        for variant in ("as-is", "prune50-untrained")
        for delegate in ("cpu", "cpu-builtin", "gpu", "nnapi")
    }
    commands = {
        "list": ["results", "list"],
        **shown,
        "compare-sweeps": ["compare", first, second],
        "compare-hosts": ["compare", resumed, interrupted],
        "compare-variants": ["compare", second, "--by", "variant"],
        "compare-delegates": ["compare", second, "--by", "delegate"],
        **explained,
        "explain-resumed": ["explain", resumed, "as-is", "cpu"],
        "explain-failed": ["explain", resumed, "as-is", "gpu"],
        "history": ["history"],
        "log": ["results", "log", one_log()],
        "prune": ["results", "prune", "--keep", "1", "--noise", "--dry-run"],
        "resume-preview": ["sweep", "--resume", interrupted, "--dry-run"],
    }
    return {name: [*command, "--json"] for name, command in commands.items()}


def one_log() -> str:
    """Return the stored path of a raw log."""
    with closing(sqlite3.connect(f"file:{WORK / STORE}?mode=ro", uri=True)) as connection:
        (path,) = connection.execute("SELECT max(log_path) FROM invocations WHERE purpose = 'latency'").fetchone()
    return str(path)


def pack() -> None:
    """Write the archive: inputs, store, logs, exports, documents and report."""
    with tarfile.open(HERE / "data" / "stored-by-0.1.tar.xz", "w:xz", preset=9) as archive:
        for name in ("sweeps.json", "inputs", "results", "exports", "documents", "report.html"):
            archive.add(WORK / name, name, filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep content only; leave out locks."""
    if "/.locks" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


if __name__ == "__main__":
    main()
