"""Disturb a sweep of many phones at random: `python tests/experiments/soak.py [--quick] [--seed N] [--phones N]`.

Eight virtual phones in one sweep, and every second or so something happens to one of them: adbd crashes or hangs, the
phone reboots or goes off, its cable is out, dead or slow, its storage is full, it revokes this computer's key, its tool
crashes, or the adb server that all of them share is killed. Each fault is undone seconds later. What a sweep leaves
open is carried on as `--resume` does, in the first rounds under faults, and then without.

The tool is a stand-in that sleeps and prints a recorded log, with a line that names phone, model, delegate, threads and
a number of its own, which the latency repeats. So it can be proved of every stored row that it is the result of the
process that it claims to be. Counted:

* lost: places of the plan that are open in the end, and rows or logs that were stored and are gone or changed;
* given back late: phones whose settings were given back by a last start without faults, since they were away before;
* crashed: places that were settled by a crash, the only fault of these that is the tool's own;
* mixed: good rows whose log names another phone or cell than the row does, or another latency, or that two rows share;
* repeated: good rows of a place that had one;
* cut off: processes that ended well on the phone and whose result did not reach this computer: their cable was out, or
  the like. They are made again, and are no loss;
* processes, threads and file descriptors of this computer, leases, and what lies and runs on the phones, before and
  after.

Exit code 1 where anything is lost, mixed, repeated or left over.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from harness.devices.adb.device import WORK_FOLDER
from harness.devices.adb.discovery import connect, disconnect
from harness.devices.adb.server import adb_client, adb_program
from harness.devices.lease import is_held
from harness.errors import HarnessError
from harness.files import sha256_of
from harness.progress import SilentObserver
from harness.spec.sweep import SweepSpec, load_sweep_spec
from harness.store.store import Store
from harness.sweep.runner import SweepRunner
from harness.sweep.variants import AS_IS_RECIPE
from harness.virtual_phone.phone import VirtualPhone, virtual_phone

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "benchmarks")]
from experiments.injected_faults import FAULTS, commands_on, knobs, tools_on  # noqa: E402 - found by the line above
from scale import LOG, MODEL, RUNS, StandIn  # noqa: E402

PHONES, QUICK_PHONES = 8, 3
INVOCATIONS, QUICK_INVOCATIONS = 16, 5
"""A cell; each phone has four cells."""
DELEGATES, THREADS = ("cpu", "cpu-builtin"), (1, 2)
FAULT_EVERY_S = 1.2
"""On average, over all phones."""
LONGEST_FAULT_S = 4.0
ROUNDS_WITH_FAULTS, MOST_ROUNDS = 3, 8
SLEEP_S = 0.3
TOOL_WITHIN_S = 3.0
SETTLES_WITHIN_S = 20.0
ENDED = "data/ended"
"""The phone's own list of the processes that ended well."""
TOOL = f"""\
for argument; do
  case $argument in
    --graph=*) graph=${{argument##*/}} ;;
    --num_threads=*) threads=${{argument#*=}} ;;
    --use_xnnpack=*) xnnpack=${{argument#*=}} ;;
  esac
done
read -r phone </proc/sys/kernel/hostname
read -r number </data/number || number=0
number=$((number + 1))
echo $number >/data/number
sleep {SLEEP_S}
echo "witness phone=$phone graph=$graph threads=$threads xnnpack=$xnnpack number=$number"
sed "s/avg=14188.6/avg=$number/; s/(avg): 14188.6/(avg): $number/" <<'END'
{LOG}END
echo $number >>/{ENDED}
"""
WITNESS = re.compile(
    r"^witness phone=(?P<phone>\S+) graph=(?P<graph>\w+) threads=(?P<threads>\d+) xnnpack=(?P<xnnpack>\w+) "
    r"number=(?P<number>\d+)$",
    re.MULTILINE,
)


class Mischief:
    """Does something to a random phone now and then, and undoes it. One phone has one fault at a time."""

    def __init__(self, phones: Sequence[VirtualPhone], dice: random.Random) -> None:
        self._phones = phones
        self._dice = dice
        self._over = threading.Event()
        self._undo_at: dict[str, tuple[float, VirtualPhone, Callable[[VirtualPhone], object]]] = {}
        self._thread = threading.Thread(target=self._make, name="mischief")
        self.made: Counter[str] = Counter()

    def __enter__(self) -> Mischief:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _make(self) -> None:
        next_fault = time.monotonic()
        while not self._over.wait(0.05):
            self._mend(time.monotonic())
            free = [phone for phone in self._phones if phone.name not in self._undo_at]
            if free and time.monotonic() >= next_fault:
                next_fault = time.monotonic() + self._dice.expovariate(1 / FAULT_EVERY_S)
                self._break(self._dice.choice(free), self._dice.choice(list(FAULTS)))
        self._mend(float("inf"))

    def _break(self, phone: VirtualPhone, name: str) -> None:
        lasts_s = self._dice.uniform(0.5, LONGEST_FAULT_S)
        if name == "tool crashes":
            await_tool(phone)
        with suppress(HarnessError):  # its adbd is away: that is fault enough
            FAULTS[name].make(phone)
            self.made[name] += 1
        self._undo_at[phone.name] = (time.monotonic() + lasts_s, phone, FAULTS[name].undo)

    def _mend(self, now: float) -> None:
        for name, (at, phone, undo) in list(self._undo_at.items()):
            if now >= at:
                try:
                    undo(phone)
                except HarnessError:  # its adbd is being started: the next look mends it
                    if now == float("inf"):
                        time.sleep(2)
                        undo(phone)
                    continue
                del self._undo_at[name]


@dataclass(frozen=True)
class Holdings:
    """What a sweep holds on this computer and on the phones; the same before and after, or something leaks."""

    children: int
    """Processes of this one."""
    servers: int
    threads: int
    file_descriptors: int
    leases: int
    phone_processes: int
    """Besides init and adbd."""
    phone_files: int
    """In harness's folder, but for tool and models under the names of their contents."""
    turned_knobs: int
    """Phones that do not stand as before the sweep."""


@dataclass
class Findings:
    """What the soak found."""

    invocations: int = 0
    """Good rows in the end."""
    attempts: int = 0
    """All rows."""
    rounds: int = 0
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    repeated: int = 0
    crashed: int = 0
    cut_off: int = 0
    given_back_late: int = 0
    """Phones whose settings the last calm start gave back, since they were away at the end."""
    failures: dict[str, int] = field(default_factory=dict)
    """Attempts that failed, by class."""
    faults: dict[str, int] = field(default_factory=dict)
    leaked: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Whether every promise holds."""
        return not (self.lost or self.mixed or self.repeated or self.leaked)


def main() -> None:
    """Run the soak, print its tables, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PHONES} phones, within a minute or so")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phones", type=int)
    arguments = parser.parse_args()
    count = arguments.phones or (QUICK_PHONES if arguments.quick else PHONES)
    invocations = QUICK_INVOCATIONS if arguments.quick else INVOCATIONS
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="harness-soak-") as folder, ExitStack() as stack:
        phones = start(stack, Path(folder), count)
        soak = Soak(phones, Path(folder), invocations, random.Random(arguments.seed))
        findings, before, after = soak.run()
    seconds = time.perf_counter() - started
    show(findings, before, after)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": seconds}
    figures = {
        "phones": count,
        "seed": arguments.seed,
        **asdict(findings),
        "before": asdict(before),
        "after": asdict(after),
    }
    print(json.dumps({"benchmark": "soak", "figures": figures, "machine": machine}))
    sys.exit(not findings.is_kept)


def start(stack: ExitStack, folder: Path, count: int) -> list[VirtualPhone]:
    """Start phones on an adb server of their own, since it will be killed; both end with the stack."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(probe.getsockname()[1])
    os.environ.pop("ANDROID_ADB_SERVER_ADDRESS", None)
    os.environ["HARNESS_LEASES"] = str(folder)
    adb_client().server_version()  # it makes this computer's key
    stack.callback(subprocess.run, [adb_program(), "kill-server"], capture_output=True, check=False)
    key = Path.home() / ".android" / "adbkey.pub"
    phones = []
    for number in range(count):
        phone = stack.enter_context(
            virtual_phone(
                f"soak-{os.getpid()}-{number}", cable=True, authorize=True, authorized_keys=key, data_size="32m"
            )
        )
        connect(phone.serial)
        stack.callback(disconnect, phone.serial)
        phones.append(phone)
    return phones


class Soak:
    """One sweep of all phones, carried on until nothing is open."""

    def __init__(self, phones: Sequence[VirtualPhone], folder: Path, invocations: int, dice: random.Random) -> None:
        self._phones = phones
        self._by_serial = {phone.serial: phone for phone in phones}
        self._spec = spec_of(self._by_serial, invocations)
        self._folder = folder / "results"
        self._registry = StandIn(folder, TOOL)
        self._dice = dice
        self._expected = len(phones) * len(DELEGATES) * len(THREADS) * invocations
        self._knobs = {phone.name: knobs(phone) for phone in phones}
        self._findings = Findings()
        self._sweep_id = ""

    def run(self) -> tuple[Findings, Holdings, Holdings]:
        """Return what was found, and what was held before and after."""
        before = self._holdings()
        kept: dict[str, str] = {}
        with Store.open(self._folder) as store:
            while self._findings.rounds < MOST_ROUNDS and self._settled_places(store) < self._expected:
                kept = self._round(store, kept, with_faults=self._findings.rounds < ROUNDS_WITH_FAULTS)
            self._findings.given_back_late = self._turned()
            self._round(store, kept, with_faults=False)
            self._judge(store)
        after = self._settled(before)
        self._findings.leaked = [
            f"{name}: {value}, before {getattr(before, name)}"
            for name, value in asdict(after).items()
            if value > getattr(before, name)
        ]
        return self._findings, before, after

    def _round(self, store: Store, kept: dict[str, str], *, with_faults: bool) -> dict[str, str]:
        """Run the sweep, or carry it on; return what is stored then, of which all that was `kept` must be a part."""
        self._findings.rounds += 1
        runner = SweepRunner(store, SilentObserver(), registry=self._registry)
        with Mischief(self._phones if with_faults else (), self._dice) as mischief:
            outcome = runner.run(self._spec, list(self._by_serial), resume=self._sweep_id or None)
        self._sweep_id = outcome.sweep_id
        self._findings.faults = dict(Counter(self._findings.faults) + mischief.made)
        for serial in self._by_serial:
            connect(serial)
        now = self._snapshot(store)
        self._findings.lost += [name for name, value in kept.items() if now.get(name) != value]
        return now

    def _settled_places(self, store: Store) -> int:
        return len(store.done(self._sweep_id)) if self._sweep_id else 0

    def _rows(self, store: Store) -> list[dict[str, Any]]:
        return records(store.invocations(self._sweep_id)) if self._sweep_id else []

    def _snapshot(self, store: Store) -> dict[str, str]:
        """Return all rows and the hashes of all logs, each under a name."""
        rows = self._rows(store)
        logs = {f"log {row['log_path']}": sha256_of(self._folder / row["log_path"]) for row in rows}
        return {f"row {row['id']}": repr(row) for row in rows} | logs

    def _judge(self, store: Store) -> None:
        cells = {row["key"]: row for row in records(store.cells(self._sweep_id))}
        rows = self._rows(store)
        good = [row for row in rows if row["failure_class"] is None]
        places = Counter((row["cell_key"], row["purpose"], row["invocation_index"]) for row in good)
        found = self._findings
        found.invocations, found.attempts = len(good), len(rows)
        found.failures = dict(Counter(row["failure_class"] for row in rows if row["failure_class"]))
        found.repeated = sum(places.values()) - len(places)
        open_places = self._expected - self._settled_places(store)
        found.lost += [f"{open_places} places are open"] * (open_places > 0)
        found.crashed = self._settled_places(store) - len(places)
        told: Counter[tuple[str, str]] = Counter()
        for row in good:
            witness = WITNESS.search(store.logs.read(row["log_path"]))
            if reason := self._mixed(row, cells[row["cell_key"]], witness):
                found.mixed.append(f"row {row['id']}: {reason}")
            elif witness:
                told[witness["phone"], witness["number"]] += 1
        found.mixed += [f"{key} stands in {times} rows" for key, times in told.items() if times > 1]
        ended = {(phone.name, number) for phone in self._phones for number in ended_on(phone)}
        found.cut_off = len(ended - told.keys())

    def _mixed(self, row: dict[str, Any], cell: dict[str, Any], witness: re.Match[str] | None) -> str:
        """Say in which way a row is not the result of the process in its log; empty where it is."""
        if witness is None:
            return "its log names no process"
        claimed = {
            "phone": self._by_serial[cell["serial"]].name,
            "graph": cell["variant_sha256"],
            "threads": str(cell["threads"]),
            "xnnpack": "true" if cell["delegate"] == "cpu" else "false",
            "number": f"{row['latency_avg_us']:.0f}",
        }
        wrong = [f"{name} is {witness[name]}, not {value}" for name, value in claimed.items() if witness[name] != value]
        return ", ".join(wrong)

    def _holdings(self) -> Holdings:
        gc.collect()
        process = psutil.Process()
        port = int(os.environ["ANDROID_ADB_SERVER_PORT"])
        return Holdings(
            children=len(process.children()),
            servers=sum(
                one.laddr.port == port and one.status == psutil.CONN_LISTEN for one in psutil.net_connections("tcp")
            ),
            threads=threading.active_count(),
            file_descriptors=process.num_fds(),
            leases=sum(is_held(serial) for serial in self._by_serial),
            phone_processes=sum(len(commands_on(phone)) for phone in self._phones),
            phone_files=sum(len(left_files(phone)) for phone in self._phones),
            turned_knobs=self._turned(),
        )

    def _turned(self) -> int:
        return sum(knobs(phone) != self._knobs[phone.name] for phone in self._phones)

    def _settled(self, before: Holdings) -> Holdings:
        """Return what is held once it is no more than before, or after some time: what ends takes a moment."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while (now := self._holdings()) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        return now


def spec_of(serials: Sequence[str] | dict[str, Any], invocations: int) -> SweepSpec:
    """Return a sweep of four cells a phone, with latency processes alone."""
    measurement = {
        "invocations": invocations,
        "runs": RUNS,
        "accuracy_samples": 0,
        "memory_invocations": 0,
        "op_profile_invocations": 0,
        "init_pairs": 0,
        "warmup_max_s": 0,
        "timeout_s": 60,
    }
    return load_sweep_spec(
        None,
        {
            "model": str(MODEL),
            "recipes": [AS_IS_RECIPE],
            "devices": list(serials),
            "delegates": list(DELEGATES),
            "threads": list(THREADS),
            "measurement": measurement,
            "reconnect_wait_s": 3 * LONGEST_FAULT_S,
            "most_faults": 1_000_000,
        },
    )


def inside(phone: VirtualPhone, path: str) -> Path:
    """Return a file of a phone as this computer sees it."""
    return Path(f"/proc/{phone.processes.init_pid()}/root") / path


def await_tool(phone: VirtualPhone) -> None:
    """Wait until the tool runs on a phone, but not for long: it may be away."""
    deadline = time.monotonic() + TOOL_WITHIN_S
    while not tools_on(phone) and time.monotonic() < deadline:
        time.sleep(0.02)


def ended_on(phone: VirtualPhone) -> list[str]:
    """Return the numbers of the processes that ended well on a phone."""
    file = inside(phone, ENDED)
    return file.read_text().split() if file.exists() else []


def left_files(phone: VirtualPhone) -> list[str]:
    """Return what lies in harness's folder on a phone besides whole tools and models."""
    folder = inside(phone, WORK_FOLDER.removeprefix("/"))
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if not re.fullmatch(r"blobs/[0-9a-f]{64}", file)]


def records(rows: Sequence[object]) -> list[dict[str, Any]]:
    """Return stored rows as plain values."""
    return [vars(row) for row in rows]


def show(findings: Findings, before: Holdings, after: Holdings) -> None:
    """Print what was counted, the faults by kind, and what was held."""
    table = Table(
        "stored", "attempts", "rounds", "faults", "lost", "mixed", "repeated", "crashed", "cut off", "given back late"
    )
    table.add_row(
        *map(
            str,
            (
                findings.invocations,
                findings.attempts,
                findings.rounds,
                sum(findings.faults.values()),
                len(findings.lost),
                len(findings.mixed),
                findings.repeated,
                findings.crashed,
                findings.cut_off,
                findings.given_back_late,
            ),
        )
    )
    faults = Table("fault", "times")
    for name, times in sorted(findings.faults.items()):
        faults.add_row(name, str(times))
    held = Table("held", "before", "after")
    for name, value in asdict(before).items():
        held.add_row(name.replace("_", " "), str(value), str(getattr(after, name)))
    for one in (table, faults, held):
        Console(width=120).print(one)
    for problem in (*findings.lost, *findings.mixed, *findings.leaked):
        Console(width=120).print(problem)


if __name__ == "__main__":
    main()
