"""What a sweep is worth after any process of it was killed: `python benchmarks/kill_any.py [--quick] [--tools FILE]`.

One virtual phone, the program as a user runs it. Each round starts `harness sweep` and kills (SIGKILL) one of its
processes at a random moment: harness itself, its compression worker, the adb server, the tool on the phone, the phone's
adbd, and, where they take part, PostgreSQL, dask's scheduler or dask's worker. Then an operator does what one does:
starts again what does not start itself, and runs `harness sweep --resume latest`. Counted against a sweep that nobody
disturbed, everything but time:

* cells, and all columns of the table that are no times;
* places of the plan: each pass and index, with the class of its last attempt;
* knobs of the phone, processes and leases that are left.

A killed tool cannot be told from one that crashed by itself, so its cell may say so: `unreliable`, or one try of how it
loads or warms up that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
from kills import MEASUREMENT, MODEL, WITNESS, changed, knobs, witnessed_phone
from kills import Course as Events
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from postgresql_server import PostgresqlServer, postgresql_server, programs_folder

from harness.analysis.summary import summary_rows
from harness.benchmark.invocation import Pass
from harness.benchmark.registry import ToolRegistry
from harness.devices.lease import is_held
from harness.errors import ExitCode
from harness.store.store import Store
from harness.virtual_phone.phone import VirtualPhone

SPEC = f"""
model = "{{model}}"
recipes = ["as-is", "prune50-untrained"]
delegates = ["cpu"]
devices = [{{device}}]
{MEASUREMENT}"""
SHORT_SPEC = """
model = "{model}"
recipes = ["prune50-untrained"]
delegates = ["cpu"]
devices = [{device}]

[measurement]
invocations = 5
runs = 10
init_pairs = 0
warmup_max_s = 0
memory_invocations = 0
accuracy_samples = 0
"""
"""Of processes that tests stand in for."""
HARNESS = (sys.executable, "-m", "harness")
TIMEOUT_S = 300
LOOK_EVERY_S = 0.05
ALIVE_FOR_S = 10.0
"""A process that lost its parent may take so long to notice."""
MOST_OF_A_LIFE = 0.8
"""Some of its kind live shorter than others."""
MOST_RESUMES = 6
PAUSE_S = 5.0
"""Before another `--resume` where the last one found no phone."""
MOST_ATTEMPTS = 3
"""A sweep that ended before its moment came is no round; so often another one is drawn."""
ANOTHER = 10_000
WHOLE = 1_000_000
"""Numbers of rounds in which nobody disturbs begin here."""
TOKEN = "HARNESS_LEASES"
"""Every process of a round carries a value of its own in this variable."""
NOT_COMPARED = frozenset(
    {"sweep_id", "rank", "tied", "fastest", "warmup_runs", "sittings", "delegate_time_share", "accuracy_note"}
)
"""Columns that hold times under another name, or when something was done."""
TIMES = ("_us", "_mb", "_spread", "_drift", "_outliers", "_change")
MARKS_OF_A_CRASH = frozenset(
    {
        "verdict",
        "invocations_failed",
        "failure_class",
        "failure_message",
        "failure_evidence",
        "failure_advice",
        "warmup_converged",
        "init_cached",
    }
)
GROUND = (Pass.INIT_COLD, Pass.INIT_WARM, Pass.WARM_UP)


class Victim(Protocol):
    """One kind of process."""

    name: str
    needs: str
    """`""`, `database` or `lab`, which keeps its results in a database too."""
    at_variants: bool
    """Whether it dies while variants are made too: then they are made in each of its rounds, else once for all."""
    comes_and_goes: bool
    """Whether it lives for a part of the sweep only: then the moment is counted from one of its starts."""

    def pids(self, sweep: Sweep) -> Sequence[int]:
        """Return those that live now."""
        ...

    def start_again(self, sweep: Sweep) -> None:
        """Do what an operator does after its death; nothing where it comes back by itself."""
        ...


@dataclass
class Process:
    """A victim that is told by its process ids."""

    name: str
    pids: Callable[[Sweep], Sequence[int]]
    comes_and_goes: bool = False
    needs: str = ""
    at_variants: bool = False
    start_again: Callable[[Sweep], None] = lambda _: None


class Sweep:
    """One sweep of the small model on one phone, with results and a cache of its own."""

    def __init__(
        self,
        phone: VirtualPhone,
        folder: Path,
        place: str | None = None,
        *,
        in_lab: bool = False,
        cache: Path | None = None,
        spec: str = SPEC,
    ) -> None:
        """`place` is where results are kept, by default the folder; `in_lab` opens a lab that measures the phone."""
        folder.mkdir(parents=True)
        self.phone = phone
        self.place = place or str(folder)
        self.spec = folder / "sweep.toml"
        device = "" if in_lab else f'"{phone.serial}"'
        self.spec.write_text(spec.format(model=MODEL, device=device))
        cache = cache or folder / "cache"
        if not cache.exists():
            cache.mkdir()
            (cache / "tools").symlink_to(ToolRegistry().folder)
        self._witness = Path(f"/proc/{phone.processes.init_pid()}/root{WITNESS}")
        self._witness.unlink(missing_ok=True)
        self.token = f"kill-any-{os.getpid()}-{folder.name}"
        self.process: subprocess.Popen[str] | None = None
        self.environment = {**os.environ, TOKEN: self.token, "HARNESS_CACHE": str(cache)}
        self.lab = Lab(folder, self.environment) if in_lab else None

    def start(self, *, resume: bool = False) -> subprocess.Popen[str]:
        """Start `harness sweep`, or carry the sweep on."""
        what = ["--resume", "latest"] if resume else [str(self.spec)]
        what += ["--lab", self.lab.address] if self.lab else []
        self.process = subprocess.Popen(
            [*HARNESS, "sweep", *what, "--results", self.place],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        return self.process

    def events(self) -> int:
        """Return how often the tool has begun or ended on the phone, by the word of a witness there."""
        return len(self._witness.read_text().split()) if self._witness.exists() else 0

    @property
    def exists(self) -> bool:
        """Whether the sweep came so far as to be stored."""
        try:
            with Store.open(self.place, must_exist=True) as store:
                return bool(store.sweeps())
        except Exception:
            return False

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the final table without times: each row by its name, with what became of each place of the plan."""
        with Store.open(self.place) as store:
            (record,) = store.sweeps()
            (sweep,) = store.read_sweeps([record.id])
        last = {(row.cell_key, row.purpose, row.invocation_index): row.failure_class for row in sweep.invocations}
        table = {}
        for row in summary_rows(sweep):
            kept = {
                name: value
                for name, value in vars(row).items()
                if name not in NOT_COMPARED and not name.endswith(TIMES)
            }
            places = sorted(
                (purpose, index, failed) for (key, purpose, index), failed in last.items() if key == row.cell_key
            )
            table[f"{row.variant} {row.delegate_requested}"] = kept | {"places": places}
        return table

    def left(self) -> list[str]:
        """Name what is left of all processes of this round, and the phone's lease."""
        if self.lab:
            self.lab.close()
        deadline = time.monotonic() + ALIVE_FOR_S
        while (alive := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.environ[TOKEN] = self.token
        return alive + (["lease"] if is_held(self.phone.serial) else [])

    def _alive(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(TOKEN) == self.token and not is_adb_server(process):
                    found.append(" ".join(process.cmdline())[:80])
        return found


class Lab:
    """dask's scheduler, and a worker beside the phone: both on this computer."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._port = int(server.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler = self._start_scheduler()
        self.worker = self._start_worker()

    def start_again(self) -> None:
        """Start what was killed, as an operator does; a worker joins a new scheduler by itself."""
        if has_ended(self.scheduler):
            self.scheduler = self._start_scheduler()
        if has_ended(self.worker):
            self.worker = self._start_worker()

    def close(self) -> None:
        """End both."""
        for process in (self.worker, self.scheduler):
            process.kill()
            process.wait()

    def _start_scheduler(self) -> subprocess.Popen[bytes]:
        where = ("--host", "127.0.0.1", "--port", str(self._port))
        return self._start("scheduler", "The lab is open at ", *where)

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", "is in the lab", self.address, "--name", "lab1")

    def _start(self, name: str, ready: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*HARNESS, "lab", name, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        deadline = time.monotonic() + TIMEOUT_S
        while ready not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The lab's {name} does not start: {log.read_text(errors='replace')[-800:]}")
            time.sleep(0.1)
        return process


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended; one that was killed takes a moment until all of its threads have."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    return process.returncode is not None


def is_adb_server(process: psutil.Process) -> bool:
    """Tell whether a process is an adb server, which outlives who started it."""
    return process.name() == "adb" and "fork-server" in process.cmdline()


def harness_itself(sweep: Sweep) -> list[int]:
    """Return the sweep's main process."""
    return [sweep.process.pid] if sweep.process and sweep.process.poll() is None else []


def compression_workers(sweep: Sweep) -> list[int]:
    """Return the workers of the sweep's main process."""
    found = []
    with suppress(psutil.Error):
        for pid in harness_itself(sweep):
            found += [
                child.pid for child in psutil.Process(pid).children() if "harness.compression.worker" in child.cmdline()
            ]
    return found


def adb_servers(_: Sweep) -> list[int]:
    """Return the adb server of this benchmark's port."""
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "5037")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if is_adb_server(process) and any(word.endswith(f":{port}") for word in process.cmdline()):
                found.append(process.pid)
    return found


def tools_on_phone(sweep: Sweep) -> list[int]:
    """Return the tool's processes on the phone."""
    with suppress(psutil.Error):
        inside = psutil.Process(sweep.phone.processes.init_pid()).children(recursive=True)
        return [process.pid for process in inside if is_tool(process)]
    return []


def is_tool(process: psutil.Process) -> bool:
    """Tell whether a process on the phone is the tool: the binary, or a script that stands in for it."""
    with suppress(psutil.Error):
        words = process.cmdline()
        return any(word.startswith("--graph=") for word in words) and "taskset" not in words[0] and "-c" not in words
    return False


def adbd(sweep: Sweep) -> list[int]:
    """Return the phone's adbd; its init starts another one after a second."""
    try:
        return [sweep.phone.processes.adbd_pid()]
    except Exception:
        return []


VICTIMS: tuple[Process, ...] = (
    Process("harness", harness_itself, at_variants=True),
    Process("compression worker", compression_workers, comes_and_goes=True, at_variants=True),
    Process("adb server", adb_servers),
    Process("tool on the phone", tools_on_phone, comes_and_goes=True),
    Process("adbd", adbd),
)
OF_A_LAB: tuple[Process, ...] = tuple(
    Process(name, pids, needs="lab", start_again=lambda sweep: sweep.lab.start_again() if sweep.lab else None)
    for name, pids in (
        ("dask scheduler", lambda sweep: [sweep.lab.scheduler.pid] if sweep.lab else []),
        ("dask worker", lambda sweep: [sweep.lab.worker.pid] if sweep.lab else []),
    )
)


@dataclass
class Lives:
    """How often a kind of process lives in a sweep that nobody disturbs, and how long in all."""

    starts: int = 0
    seconds: float = 0.0


@dataclass
class Course:
    """A sweep that nobody disturbs."""

    events: Events
    lives: dict[str, Lives]
    table: dict[str, dict[str, Any]]


@dataclass
class Round:
    """What one kill did."""

    number: int
    victim: str
    moment: str = ""
    killed: bool = False
    exit_code: int | None = None
    """Of the sweep that was disturbed."""
    resume_exit_code: int | None = None
    resumes: int = 0
    """Each but the last found nothing to run on yet."""
    differences: list[str] = field(default_factory=list)
    knobs_changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the promise holds."""
        return self.resume_exit_code == 0 and not (self.differences or self.knobs_changed or self.left)


def run_whole(sweep: Sweep, victims: Sequence[Victim]) -> Course:
    """Run a sweep to its end and look on. Raises `SystemExit` where it does not end well."""
    lives = {victim.name: Lives() for victim in victims}
    seen: dict[str, set[int]] = {victim.name: set() for victim in victims}
    before = time.monotonic()
    events = [(0, before)]
    process = sweep.start()
    while process.poll() is None:
        now = time.monotonic()
        if (count := sweep.events()) > events[-1][0]:
            events.append((count, now))
        for victim in victims:
            pids = set(victim.pids(sweep)) if victim.comes_and_goes else set()
            lives[victim.name].starts += len(pids - seen[victim.name])
            lives[victim.name].seconds += len(pids) * (now - before)
            seen[victim.name] |= pids
        before = now
        time.sleep(LOOK_EVERY_S)
    if process.returncode != 0:
        said = process.communicate()[1][-800:]
        raise SystemExit(f"A sweep that nobody disturbs ends with {process.returncode}: {said}")
    course = Events(events[1][1] - events[0][1], events[-1][0], time.monotonic() - events[-1][1])
    return Course(course, lives, sweep.table())


def disturb(sweep: Sweep, victim: Victim, course: Course, dice: random.Random, one: Round) -> None:
    """Start the sweep, kill the victim at a random moment, and let what lives on come to its end."""
    process = sweep.start()
    if victim.comes_and_goes:
        lives = course.lives[victim.name]
        start, after_s = dice.randint(1, lives.starts), dice.uniform(0, MOST_OF_A_LIFE * lives.seconds / lives.starts)
        one.moment = f"start {start} + {after_s:.2f} s"
        pids: Sequence[int] = _await_start(sweep, victim, start)
    else:
        count, after_s = course.events.moment(dice)
        one.moment = f"event {count} + {after_s:.2f} s"
        pids = ()
        while sweep.events() < count and process.poll() is None:
            time.sleep(LOOK_EVERY_S)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    pids = pids or victim.pids(sweep)
    for pid in pids if process.poll() is None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            one.killed = True
    _await_end(pids)
    victim.start_again(sweep)
    one.said = process.communicate(timeout=TIMEOUT_S)[1]
    one.exit_code = process.returncode


def _await_end(pids: Sequence[int]) -> None:
    """Wait until killed processes are gone; of this one's own children, until they have ended."""
    deadline = time.monotonic() + ALIVE_FOR_S
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            while time.monotonic() < deadline:
                if process.status() == psutil.STATUS_ZOMBIE and process.ppid() == os.getpid():
                    break
                time.sleep(LOOK_EVERY_S)


def _await_start(sweep: Sweep, victim: Victim, start: int) -> list[int]:
    """Wait until the victim has started so many times; return that one, nothing where the sweep ended before."""
    seen: list[int] = []
    assert sweep.process is not None
    while sweep.process.poll() is None:
        seen += [pid for pid in victim.pids(sweep) if pid not in seen]
        if len(seen) >= start:
            return [seen[start - 1]]
        time.sleep(LOOK_EVERY_S)
    return []


def carry_on(sweep: Sweep, victim: Victim, course: Course, before: dict[str, str | None], one: Round) -> None:
    """Carry the sweep on as an operator does, and look at all that came of it."""
    while one.resumes < MOST_RESUMES and one.resume_exit_code in (None, ExitCode.NOTHING_TO_RUN_ON):
        time.sleep(PAUSE_S * one.resumes)  # a lab takes a while until its phones are there again
        process = sweep.start(resume=sweep.exists)
        one.said += process.communicate(timeout=TIMEOUT_S)[1]
        one.resume_exit_code = process.returncode
        one.resumes += 1
    one.knobs_changed = changed(before, knobs(sweep.phone))
    if one.resume_exit_code in (ExitCode.OK, ExitCode.CELL_FAILED):
        one.differences = differences(course.table, sweep.table(), may_crash=victim.name == "tool on the phone")
    if victim.name == "tool on the phone" and not one.differences and one.resume_exit_code == ExitCode.CELL_FAILED:
        one.resume_exit_code = ExitCode.OK  # the crash that the cell tells of
    one.left = sweep.left()
    one.said = one.said[-600:] if not one.is_kept else ""


def differences(expected: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]], *, may_crash: bool) -> list[str]:
    """Name what two tables differ in."""
    told = [f"only in one: {name}" for name in expected.keys() ^ found.keys()]
    for name in expected.keys() & found.keys():
        one, other = expected[name], found[name]
        if may_crash:
            one, other = _without_crash(one), _without_crash(other)
        told += [
            f"{name} {column}: {other.get(column)} instead of {one[column]}"
            for column in one
            if one[column] != other.get(column)
        ]
    return told


def _without_crash(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in vars(row).items() if name not in MARKS_OF_A_CRASH}
    return kept | {"places": [place for place in row["places"] if place[0] not in GROUND]}


def postgresql_as_victim(server: PostgresqlServer) -> Process:
    """Return all processes of a PostgreSQL server, which an operator starts again."""

    def processes(_: Sweep) -> list[int]:
        with suppress(FileNotFoundError, psutil.Error):
            postmaster = psutil.Process(server.pid)
            return [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]
        return []

    def start_again(_: Sweep) -> None:
        if not server.running:
            server.start()

    return Process("PostgreSQL", processes, needs="database", start_again=start_again)


def kill_often(
    phone: VirtualPhone,
    folder: Path,
    *,
    rounds: int,
    seed: int,
    victims: Sequence[Victim] = VICTIMS,
    database: Callable[[int], str] | None = None,
    spec: str = SPEC,
) -> tuple[list[Round], dict[bool, Course]]:
    """Kill the victims in turn; return what each kill did, and how sweeps go that nobody disturbs, out of a lab and in.

    `database` makes a new database of a number and returns its URL; victims that need one are left out without it.
    """
    victims = [victim for victim in victims if database or not victim.needs]
    dice = random.Random(seed)
    before = knobs(phone)

    def sweep_for(victim: Victim, number: int) -> Sweep:
        place = database(number) if database and victim.needs else None
        in_lab = victim.needs == "lab"
        cache = None if victim.at_variants else folder / "cache"
        return Sweep(phone, folder / str(number), place, in_lab=in_lab, cache=cache, spec=spec)

    courses: dict[bool, Course] = {}
    outcomes = []
    for number in range(rounds):
        victim = victims[number % len(victims)]
        in_lab = victim.needs == "lab"
        if in_lab not in courses:
            alike = [other for other in victims if (other.needs == "lab") == in_lab]
            whole = sweep_for(alike[0] if alike[0].at_variants else victim, WHOLE + in_lab)
            courses[in_lab] = run_whole(whole, alike)
            whole.left()
        for attempt in range(MOST_ATTEMPTS):
            one = Round(number, victim.name)
            sweep = sweep_for(victim, number + attempt * ANOTHER)
            disturb(sweep, victim, courses[in_lab], dice, one)
            if one.killed:
                break
        carry_on(sweep, victim, courses[in_lab], before, one)
        outcomes.append(one)
        print(f"{one}: {'kept' if one.is_kept else 'BROKEN'}", file=sys.stderr, flush=True)
    return outcomes, courses


def count(rounds: Sequence[Round]) -> dict[str, int]:
    """Return the sums over some rounds."""
    return {
        "rounds": len(rounds),
        "killed": sum(one.killed for one in rounds),
        "went on by itself": sum(one.exit_code == 0 for one in rounds),
        "resumes": sum(one.resumes for one in rounds),
        "kept": sum(one.is_kept for one in rounds),
        "differences": sum(len(one.differences) for one in rounds),
        "knobs changed": sum(len(one.knobs_changed) for one in rounds),
        "left over": sum(len(one.left) for one in rounds),
    }


def show(rounds: Sequence[Round]) -> None:
    """Print one row a kind of process."""
    table = Table("killed", *count(rounds))
    for name in dict.fromkeys(one.victim for one in rounds):
        figures = count([one for one in rounds if one.victim == name])
        table.add_row(name, *map(str, figures.values()))
    Console(width=160).print(table)
    for one in rounds:
        if not one.is_kept:
            Console(width=160).print(one)


def main() -> None:
    """Kill, carry on, compare, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round a kind of process")
    parser.add_argument("--rounds", type=int, help="default: four a kind of process")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", help="such as harness or PostgreSQL; default: all")
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    arguments = parser.parse_args()
    if arguments.tools:
        ToolRegistry().add(arguments.tools)
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-kill-any-")))
        victims, database = list(VICTIMS), None
        if programs_folder() is None:
            print("PostgreSQL is not installed (Debian: apt install postgresql): it is left out.", file=sys.stderr)
        else:
            server = stack.enter_context(postgresql_server())
            victims += [postgresql_as_victim(server), *OF_A_LAB]
            database = lambda number: server.new_database(f"round{number}")  # noqa: E731
        victims = [victim for victim in victims if victim.name in (arguments.kinds or [victim.name])]
        phone = stack.enter_context(witnessed_phone())
        each = 1 if arguments.quick else 4
        rounds, courses = kill_often(
            phone,
            folder,
            rounds=arguments.rounds or each * len(victims),
            seed=arguments.seed,
            victims=victims,
            database=database,
        )
    show(rounds)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    figures = {
        "events": [course.events.events for course in courses.values()],
        **count(rounds),
        "rounds": [asdict(one) for one in rounds],
    }
    print(json.dumps({"benchmark": "kill_any", "figures": figures, "machine": machine}))
    sys.exit(not all(one.is_kept for one in rounds))


if __name__ == "__main__":
    main()
