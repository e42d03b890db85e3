"""Kill sweeps and check what they leave: `python tests/experiments/kills.py [--quick] [--rounds N] [--tools ARCHIVE]`.

One virtual phone, the official tool, the program as a user runs it. Each round starts `harness sweep` with a results
folder of its own and ends it at a random moment between its start and its end: by SIGINT, SIGTERM and SIGKILL in turn,
in a sixth of the rounds before its first process of the tool, in a sixth after the last one, else in between.
Then harness is started again: `harness sweep --resume`, every other time after `harness devices --restore`. Counted:

* knobs of the phone (screen, stay-awake, fixed performance, governor and clocks of each core) that stand otherwise than
  before the round, looked at from outside the phone: after the next start, and after SIGINT and SIGTERM at once;
* invocations that had ended on the phone, by the word of a witness there, and are not in the store: at most the one
  that was under way may be missing;
* stored rows and logs that are gone or changed after the sweep was carried on;
* places of the plan that have no row in the end, or more than one, and processes that were made again for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from injected_faults import knobs
from rich.console import Console
from rich.table import Table

from harness.benchmark.registry import ToolRegistry
from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.files import sha256_of
from harness.store.records import FILE_NAME
from harness.store.store import Store
from harness.virtual_phone.phone import VirtualPhone, virtual_phone

MODEL = Path(__file__).resolve().parents[1] / "accuracy" / "data" / "pooled-float.tflite"
MEASUREMENT = """
[measurement]
invocations = 5
runs = 10
init_pairs = 1
warmup_min_s = 0.05
warmup_max_s = 0.2
warmup_limit = 0.000001
accuracy_samples = 20
"""
"""A warm-up that never settles takes as many processes each time."""
SPEC = f"""
model = "{{model}}"
recipes = ["as-is"]
delegates = [{{delegates}}]
devices = ["{{serial}}"]
{MEASUREMENT}"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
DELEGATES = ("cpu", "cpu-builtin")
TIMEOUT_S = 300
LONGEST_PAUSE_S = 0.5
"""After an event: about what lies between two of them."""
WITNESS = "/data/local/tmp/witness"
TASKSET = f"""#!/system/bin/sh
# Says when the tool began and ended; harness pins it, and its first process on the way is this one.
case "$*" in *--graph=*--num_runs=*) ;; *) exec toybox taskset "$@" ;; esac
echo begun >>{WITNESS}
toybox taskset "$@"
code=$?
echo ended >>{WITNESS}
exit $code
"""
WARM_UP = "warm_up"
"""Its processes are as many as the search for a cell's warm-up takes."""
BEGUN_ANEW = "init_cold"
"""Half a pair of loads begins again with an empty cache, which the first load had filled."""


@dataclass
class Round:
    """What one kill did."""

    number: int
    signal: str
    after_events: int
    """So many times the tool had begun or ended on the phone; then"""
    after_s: float
    exit_code: int | None = None
    stored: int = 0
    """Invocations in the store after the kill."""
    lost: int = 0
    """Ended on the phone, and not in the store."""
    knobs_changed: list[str] = field(default_factory=list)
    rows_changed: int = 0
    """Stored before, and gone or different in the end; logs counted too."""
    missing: int = 0
    """Places of the plan without a good row."""
    repeated: int = 0
    """Good rows for a place that had one, but for the halves that must begin anew."""
    begun_anew: int = 0
    """Those halves."""
    unexplained: int = 0
    """Processes begun on the phone without a row, but for the one that was killed."""
    resume_exit_code: int | None = None
    said: str = ""
    """What a traceback ended with, of either start."""

    @property
    def is_kept(self) -> bool:
        """Whether the promise holds."""
        wrong = (self.knobs_changed, self.rows_changed, self.missing, self.repeated, self.unexplained)
        return not any(wrong) and self.lost <= 1 and self.resume_exit_code == 0 and "Error" not in self.said


def main() -> None:
    """Kill, look, carry on, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    arguments = parser.parse_args()
    if arguments.tools:
        ToolRegistry().add(arguments.tools)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="harness-kills-") as folder, witnessed_phone() as phone:
        rounds, course = kill_often(
            phone, Path(folder), rounds=3 if arguments.quick else arguments.rounds, seed=arguments.seed
        )
    show(rounds)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    figures = {"whole": asdict(course), **count(rounds), "rounds": [asdict(one) for one in rounds]}
    print(json.dumps({"benchmark": "kills", "figures": figures, "machine": machine}))
    sys.exit(not all(one.is_kept for one in rounds))


@contextmanager
def witnessed_phone() -> Iterator[VirtualPhone]:
    """Run a phone whose taskset writes down each process of the tool, and whose knobs stand as no knob wants them."""
    vendor = next((tool.vendor_folder for tool in ToolRegistry().tools() if tool.vendor_folder), None)
    if vendor is None:
        raise SystemExit("No tool for virtual phones is registered: add --tools ARCHIVE.")
    with virtual_phone(f"kills-{os.getpid()}", vendor=vendor) as phone, tempfile.TemporaryDirectory() as folder:
        device = open_device(connect(phone.serial))
        script = Path(folder) / "taskset"
        script.write_text(TASKSET)
        put = 'rm -f "$2"; cp "$1" "$2"; chmod 755 "$2"'
        device.run(["sh", "-c", put, "sh", device.push(script), "/system/bin/taskset"], timeout_s=20)
        phone.controls.set_screen(on=False)
        phone.controls.set_setting("global", "stay_on_while_plugged_in", "3")
        yield phone
        disconnect(phone.serial)


def kill_often(
    phone: VirtualPhone, folder: Path, *, rounds: int, seed: int, delegates: Sequence[str] = DELEGATES
) -> tuple[list[Round], Course]:
    """Return what each round did, and how a sweep that nobody kills went."""
    dice = random.Random(seed)
    whole = Sweep(phone, folder / "whole", delegates)
    course = run_whole(whole)
    plan = whole.places()
    outcomes = []
    for number in range(rounds):
        sweep = Sweep(phone, folder / str(number), delegates)
        one = Round(number, SIGNALS[number % len(SIGNALS)].name, *course.moment(dice))
        kill_once(sweep, plan, one)
        outcomes.append(one)
        print(f"{one}: {'kept' if one.is_kept else 'BROKEN'}", file=sys.stderr)
    return outcomes, course


@dataclass(frozen=True)
class Course:
    """How a sweep that nobody kills goes."""

    startup_s: float
    """Until the tool begins for the first time."""
    events: int
    """How often the tool begins or ends."""
    ending_s: float
    """From its last end to that of the sweep."""

    def moment(self, dice: random.Random) -> tuple[int, float]:
        """Return a moment as a number of events and seconds after the last of them."""
        phase = dice.randrange(6)
        if phase == 0:
            return 0, dice.uniform(0, self.startup_s)
        if phase == 1:
            return self.events, dice.uniform(0, self.ending_s)
        return dice.randrange(1, self.events), dice.uniform(0, LONGEST_PAUSE_S)


def run_whole(sweep: Sweep) -> Course:
    """Run a sweep to its end and look on. Raises `SystemExit` where it measures nothing."""
    seen: list[tuple[int, float]] = [(0, time.monotonic())]
    process = sweep.start()
    while process.poll() is None:
        if (events := len(sweep.witness())) > seen[-1][0]:
            seen.append((events, time.monotonic()))
        time.sleep(0.01)
    if len(seen) == 1:
        raise SystemExit(f"A sweep that nobody kills measures nothing: {process.communicate()[1][-500:]}")
    return Course(seen[1][1] - seen[0][1], seen[-1][0], time.monotonic() - seen[-1][1])


def kill_once(sweep: Sweep, plan: Counter[Place], one: Round) -> None:
    """Carry out one round."""
    before = knobs(sweep.phone)
    process = sweep.start()
    while len(sweep.witness()) < one.after_events and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(one.after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.Signals[one.signal])
    said = process.communicate(timeout=TIMEOUT_S)[1]
    one.exit_code = process.returncode
    if one.signal != signal.SIGKILL.name:
        one.knobs_changed += changed(before, knobs(sweep.phone))
    kept = sweep.kept()
    one.stored = sum(name.startswith("row ") for name in kept)
    one.lost = sweep.witness().count("ended") - one.stored
    if one.number % 2:
        sweep.harness("devices", "--restore", sweep.phone.serial)
        one.knobs_changed += changed(before, knobs(sweep.phone))
    carried_on = sweep.start(resume=sweep.exists)
    said += carried_on.communicate(timeout=TIMEOUT_S)[1]
    one.resume_exit_code = carried_on.returncode
    one.knobs_changed += changed(before, knobs(sweep.phone))
    now = sweep.kept()
    one.rows_changed = sum(now.get(name) != value for name, value in kept.items())
    made = sweep.places()
    one.missing = sum(times for place, times in (plan - made).items() if place[1] != WARM_UP)
    again = made - Counter(set(made))
    one.begun_anew = sum(times for place, times in again.items() if place[1] == BEGUN_ANEW)
    one.repeated = sum(again.values()) - one.begun_anew
    unstored = sweep.witness().count("begun") - sum(name.startswith("row ") for name in now)
    one.unexplained = max(0, unstored - 1)
    errors = EXCEPTION.findall(said)
    one.said = errors[-1] if errors else ""


EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|KeyboardInterrupt)\b.*", re.MULTILINE)
"""The last line of a traceback. Ctrl-C before harness's own first line leaves one, like that of any Python program."""

Place = tuple[str, str, int]
"""Delegate, pass and index of an invocation."""


class Sweep:
    """One sweep of the small model on the phone, in a results folder of its own."""

    def __init__(self, phone: VirtualPhone, folder: Path, delegates: Sequence[str] = DELEGATES) -> None:
        folder.mkdir()
        self.phone = phone
        self.folder = folder
        self.spec = folder / "sweep.toml"
        named = ", ".join(f'"{name}"' for name in delegates)
        self.spec.write_text(SPEC.format(model=MODEL, serial=phone.serial, delegates=named))
        self._witness = Path(f"/proc/{phone.processes.init_pid()}/root{WITNESS}")
        self._witness.unlink(missing_ok=True)

    def start(self, *, resume: bool = False) -> subprocess.Popen[str]:
        """Start `harness sweep`, or carry the sweep on."""
        what = ["--resume", "latest"] if resume else [str(self.spec)]
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "sweep", *what, "--results", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def harness(self, *arguments: str) -> None:
        """Run another verb to its end."""
        command = [sys.executable, "-m", "harness", *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=True)

    @property
    def exists(self) -> bool:
        """Whether the sweep came so far as to be stored."""
        if not (self.folder / FILE_NAME).exists():
            return False
        with Store.open(self.folder) as store:
            return bool(store.sweeps())

    def witness(self) -> list[str]:
        """Return what the phone's witness wrote down."""
        return self._witness.read_text().split() if self._witness.exists() else []

    def kept(self) -> dict[str, str]:
        """Return all rows of invocations and accuracies and the hashes of all logs, each under a name."""
        if not self.exists:
            return {}
        with Store.open(self.folder) as store:
            (sweep,) = store.sweeps()
            rows = {
                "row": _records(store.invocations(sweep.id)),
                "accuracy": _records(store.accuracies(sweep.id)),
            }
        kept = {f"{kind} {row['id']}": repr(row) for kind, found in rows.items() for row in found}
        logs = [row["log_path"] for found in rows.values() for row in found]
        return kept | {f"log {path}": sha256_of(self.folder / path) for path in logs}

    def places(self) -> Counter[Place]:
        """Return how many good rows each place of the plan has."""
        if not self.exists:
            return Counter()
        with Store.open(self.folder) as store:
            (sweep,) = store.sweeps()
            delegates = {row["key"]: row["delegate"] for row in _records(store.cells(sweep.id))}
            rows = _records(store.invocations(sweep.id))
            accuracies = _records(store.accuracies(sweep.id))
        places = [
            (delegates[row["cell_key"]], str(row["purpose"]), int(row["invocation_index"]))
            for row in rows
            if row["failure_class"] is None
        ]
        places += [(delegates[row["cell_key"]], "accuracy", 0) for row in accuracies if row["failure_class"] is None]
        return Counter(places)


def _records(rows: Sequence[object]) -> list[dict[str, Any]]:
    return [vars(row) for row in rows]


def changed(before: dict[str, str | None], now: dict[str, str | None]) -> list[str]:
    """Name what stands otherwise than before."""
    return [f"{name}: {now[name]} instead of {value}" for name, value in before.items() if now[name] != value]


def count(rounds: Sequence[Round]) -> dict[str, int]:
    """Return the sums over all rounds."""
    return {
        "kills": len(rounds),
        "kept": sum(one.is_kept for one in rounds),
        "rounds_with_a_knob_changed": sum(bool(one.knobs_changed) for one in rounds),
        "stored_at_the_kill": sum(one.stored for one in rounds),
        "lost_but_for_the_one_under_way": sum(max(0, one.lost - 1) for one in rounds),
        "lost_under_way": sum(min(1, one.lost) for one in rounds),
        **{
            name: sum(getattr(one, name) for one in rounds)
            for name in ("rows_changed", "missing", "repeated", "begun_anew", "unexplained")
        },
    }


def show(rounds: Sequence[Round]) -> None:
    """Print one row a signal."""
    table = Table("killed by", *count(rounds))
    for name in [one.name for one in SIGNALS]:
        figures = count([one for one in rounds if one.signal == name])
        table.add_row(name, *map(str, figures.values()))
    Console(width=160).print(table)
    for one in rounds:
        if not one.is_kept:
            Console(width=160).print(one)


if __name__ == "__main__":
    main()
