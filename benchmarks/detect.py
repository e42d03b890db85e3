"""Whether real differences are found, and none where there is none: `python benchmarks/detect.py [--quick]`.

One virtual phone, the official tool, real sweeps. Each sweep measures three copies of every variant in turns: the file
itself, the same again under another name (A/A), and a third one whose processes are held to a part of a core by a CPU
quota of the kernel (A/B), so that the true factor is known. A/A sweeps for the noise floor come first, as a user would
make them with `harness noise`. Printed are the verdicts of `harness compare`, inside each sweep and between every sweep
and the next, and beside them what one reads off the first process of either side alone.

Needs root, for the quota. Control groups of version 1 and 2 are served; version 2 was not at hand to try.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from harness.analysis.cell_comparison import CellPair, compare_cells
from harness.analysis.comparable_cell import ComparableCell, read_comparable_cells
from harness.analysis.comparison import SMALLEST_EFFECT
from harness.analysis.device_noise import between_floor, noise_cells, read_noise, within_floor
from harness.benchmark.registry import ToolRegistry
from harness.cli.progress import watch
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.devices.adb.discovery import connect, disconnect, open_device
from harness.paths import cache_folder
from harness.progress import Observer
from harness.spec.model import find_model
from harness.spec.sweep import SweepSpec, load_sweep_spec
from harness.store.store import Store
from harness.sweep.runner import sweep_variants
from harness.tflite.variant import Variant
from harness.virtual_phone.phone import VirtualPhone, virtual_phone

RUNS = 1000
"""Of a model that takes well under a millisecond: long against the quota's period."""
PERIOD_US = 10_000
LOOK_S = 0.005
"""Between two looks for a new process that is to be held back; a warm-up of a quarter of a second hides the delay."""
AGAIN, SLOWED = "-again", "-slowed"
GROUPS = Path("/sys/fs/cgroup")


def main() -> None:
    """Measure, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one variant, few sweeps of few processes: about a minute")
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    parser.add_argument("--slower", type=float, default=10.0, help="how much slower the third copy is made, percent")
    parser.add_argument("--sweeps", type=int, help="how many sweeps are compared")
    arguments = parser.parse_args()
    registry = ToolRegistry()
    if arguments.tools:
        registry.add(arguments.tools)
    vendor = next((tool.vendor_folder for tool in registry.tools() if tool.vendor_folder), None)
    if vendor is None:
        raise SystemExit("No tool for virtual phones is registered: add --tools ARCHIVE.")
    recipes, noise, sweeps, invocations = (("fp32",), 2, 2, 5) if arguments.quick else (("fp32", "int8"), 5, 8, 18)
    name = f"detect-{os.getpid()}"
    factor = 1 + arguments.slower / 100
    with virtual_phone(name, vendor=vendor) as phone, tempfile.TemporaryDirectory() as folder, watch() as bars:
        variants = copies(recipes, Path(folder), bars)
        slowed = {variant.sha256 for variant in variants if variant.name.endswith(SLOWED)}
        serial = connect(phone.serial)
        with Store.open(Path(folder) / "results") as store, held_back(processes(phone), slowed, 1 / factor):
            run = Bench(store, registry, bars, serial, variants, invocations)
            for _ in range(noise):
                run.sweep("noise")
            figures = judge(store, serial, [run.sweep("measure") for _ in range(arguments.sweeps or sweeps)])
        disconnect(serial)
    figures |= {"asked_factor": factor, "noise_sweeps": noise, "invocations": invocations}
    show(figures)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "detect", "figures": figures, "machine": machine}))


def copies(recipes: Sequence[str], folder: Path, observer: Observer) -> list[Variant]:
    """Return three variants a recipe that compute the same, told apart by bytes after the end of the model."""
    model = find_model("fashion-dscnn")
    found = []
    for recipe in recipes:
        variant = make_variant(model, find_recipe(recipe), cache=cache_folder(), observer=observer)
        for index, suffix in enumerate(("", AGAIN, SLOWED)):
            content = variant.path.read_bytes() + bytes(16 * index)
            path = folder / f"{recipe}{suffix}.tflite"
            path.write_bytes(content)
            changes = {"recipe": recipe + suffix, "sha256": sha256(content).hexdigest()}
            found.append(Variant(path, variant.card.model_copy(update=changes)))
    return found


def processes(phone: VirtualPhone) -> list[int]:
    """Return all processes of a phone; whatever it starts later is born in their control group."""
    outer = psutil.Process(int((phone.folder / "pid").read_text()))
    return [outer.pid, *(child.pid for child in outer.children(recursive=True))]


@contextmanager
def held_back(pids: Sequence[int], files: set[str], share: float) -> Iterator[None]:
    """Hold every process of a phone that names one of `files` in its command line to a share of one core."""
    is_first = (GROUPS / "cpu").is_dir()
    root = GROUPS / "cpu" if is_first else GROUPS
    whole, part = (root / f"harness-detect-{os.getpid()}-{kind}" for kind in ("whole", "part"))
    quota = (
        {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": round(PERIOD_US * share)}
        if is_first
        else {"cpu.max": f"{round(PERIOD_US * share)} {PERIOD_US}"}
    )
    try:
        for group in (whole, part):
            group.mkdir()
        for file, value in quota.items():
            (part / file).write_text(str(value))
        for pid in pids:
            (whole / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise SystemExit(f"This machine lets nobody set a CPU quota here: {error}. Run as root.") from error
    stop = threading.Event()
    mover = threading.Thread(target=move, args=(whole, part, files, stop), daemon=True)
    mover.start()
    try:
        yield
    finally:
        stop.set()
        mover.join()
        for group in (whole, part):
            for pid in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(pid)
            group.rmdir()


def move(whole: Path, part: Path, files: set[str], stop: threading.Event) -> None:
    """Move what is to be held back from one group to the other, as soon as it starts."""
    others: set[str] = set()
    while not stop.wait(LOOK_S):
        there = set((whole / "cgroup.procs").read_text().split())
        for pid in there - others:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
                if "--graph=" not in command:  # a shell still, which may become the tool
                    continue
                if any(file in command for file in files):
                    (part / "cgroup.procs").write_text(pid)
                else:
                    others.add(pid)
            except OSError:  # it has ended meanwhile
                continue
        others &= there


class Bench:
    """The same sweep, again and again."""

    def __init__(
        self, store: Store, registry: ToolRegistry, observer: Observer, serial: str, variants: list[Variant], count: int
    ) -> None:
        self._store, self._registry, self._observer = store, registry, observer
        self._serial, self._variants, self._count = serial, variants, count
        self._seed = 0

    def sweep(self, purpose: str) -> str:
        """Measure all variants once more in an order of its own; return the sweep's id."""
        self._seed += 1
        measurement = {
            "invocations": self._count,
            "runs": RUNS,
            "accuracy_samples": 0,
            "memory_invocations": 0,
            "op_profile_invocations": 0,
            "init_pairs": 0,
            "warmup_max_s": 0,
        }
        spec: SweepSpec = load_sweep_spec(
            None, {"delegates": ["cpu"], "purpose": purpose, "seed": self._seed, "measurement": measurement}
        )
        return sweep_variants(
            self._variants,
            spec,
            open_device(self._serial),
            store=self._store,
            registry=self._registry,
            observer=self._observer,
        )


def judge(store: Store, serial: str, sweeps: Sequence[str]) -> dict[str, Any]:
    """Compare as `harness compare` does; return the share of each verdict by what was compared."""
    sides = [{side.cell["variant"]: side for side in read_comparable_cells(store, sweep)} for sweep in sweeps]
    plain = [name for name in sides[0] if not name.endswith((AGAIN, SLOWED))]
    pairs: dict[str, list[tuple[ComparableCell, ComparableCell]]] = {
        "A/A inside a sweep": [(sweep[name], sweep[name + AGAIN]) for sweep in sides for name in plain],
        "A/B inside a sweep": [(sweep[name], sweep[name + SLOWED]) for sweep in sides for name in plain],
        "A/A between sweeps": [(one[name], other[name]) for one, other in pairwise(sides) for name in one],
        "A/B between sweeps": [(one[name], other[name + SLOWED]) for one, other in pairwise(sides) for name in plain],
    }
    noise = noise_cells(store, {serial})
    count = min(len(side.latencies_us) for sweep in sides for side in sweep.values())
    within, between = within_floor(noise, count), between_floor(noise)
    return {
        "verdicts": {name: verdicts(store, compared) for name, compared in pairs.items()},
        "one_process": {name: naive(compared) for name, compared in pairs.items()},
        "found_factor": statistics.median(ratio(a, b) for a, b in pairs["A/B inside a sweep"]),
        "noise_floor_inside": within.value if within else None,
        "noise_floor_between": between.value if between else None,
        "between_processes": statistics.median(
            side.cell["latency_spread"] for sweep in sides for side in sweep.values()
        ),
    }


def ratio(a: ComparableCell, b: ComparableCell) -> float:
    """Return how many times slower B is than A, by the medians of their processes."""
    return statistics.median(b.latencies_us.values()) / statistics.median(a.latencies_us.values())


def verdicts(store: Store, pairs: Sequence[tuple[ComparableCell, ComparableCell]]) -> dict[str, float]:
    """Return the share of each verdict. Each pair is judged alone, as a user with one question does."""
    found = Counter(
        str(compare_cells([CellPair(a, b)], read_noise(store, [a, b]))[0].finding.verdict) for a, b in pairs
    )
    return {verdict: count / len(pairs) for verdict, count in found.items()} | {"pairs": len(pairs)}


def naive(pairs: Sequence[tuple[ComparableCell, ComparableCell]]) -> float:
    """Return how often the first process of B is slower than that of A by the smallest effect that matters."""
    slower = [
        next(iter(b.latencies_us.values())) / next(iter(a.latencies_us.values())) > 1 + SMALLEST_EFFECT
        for a, b in pairs
    ]
    return sum(slower) / len(slower)


def show(figures: dict[str, Any]) -> None:
    """Print the verdicts for people, with what this machine's noise was."""
    title = f"slowed {figures['asked_factor']:.2f} times by a quota; {figures['found_factor']:.3f} times was measured"
    names = ("slower", "faster", "same", "inconclusive", "refused")
    table = Table("compared", "pairs", *(f"{name}, %" for name in names), "one process says slower, %", title=title)
    for what, shares in figures["verdicts"].items():
        cells = [f"{100 * shares.get(name, 0):.0f}" for name in names]
        table.add_row(what, f"{shares['pairs']}", *cells, f"{100 * figures['one_process'][what]:.0f}")
    console = Console(width=120)
    console.print(table)
    floors = {"inside a sweep": figures["noise_floor_inside"], "between sweeps": figures["noise_floor_between"]}
    told = ", ".join(
        f"{name} {'unknown' if floor is None else f'{100 * floor:.1f} %'}" for name, floor in floors.items()
    )
    console.print(
        f"Noise floor of {figures['noise_sweeps']} A/A sweeps: {told}. "
        f"Interquartile range of processes: {100 * figures['between_processes']:.1f} %."
    )


if __name__ == "__main__":
    main()
