"""How long the commands of every day take, side by side with another checkout.

    python benchmarks/commands.py [--against CHECKOUT] [--nights N | --quick]

Each command runs as a user runs it, as a process of its own, in turns with the same command of the other checkout, so
that a slow minute of the computer slows both. The store holds 400 cells a night, 21,000 invocations in all
(`benchmarks/store.py`); the other checkout writes it, and each checkout reads a copy of its own, so that neither is
spared a migration or hindered by one. The first pair compiles the modules into a cache of the benchmark's own and fills
the page cache; it is left out. Without `--against` only this checkout is timed. A ratio below 1 says that this checkout
is faster. `--nights 250` makes a store of a million invocations.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

THIS = Path(__file__).resolve().parents[1]
COMMANDS: Mapping[str, Sequence[str]] = {
    "help": ["--help"],
    "list": ["results", "list"],
    "compare": ["compare", "latest~1", "latest"],
    "report": ["report", "latest", "-o", "night.html"],
}
"""What is timed, by its name; each runs in a folder of its own that holds the store."""
BUILD = "import store, sys; store.build(store.Path('results'), store.Size(int(sys.argv[1]), int(sys.argv[2]), 1))"
MOST_EXIT_CODE = 1
"""1: a comparison found something; more is an error."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    nights: int
    phones: int
    """Forty cells each."""
    pairs: int


FULL, QUICK = Size(nights=5, phones=10, pairs=7), Size(nights=2, phones=1, pairs=5)


@dataclass(frozen=True)
class Checkout:
    """One version of harness, and a folder for its store and files."""

    source: Path
    folder: Path

    def python(self, *arguments: str, **environment: str) -> None:
        """Run Python with this version of harness in the folder. Ends the benchmark if that fails."""
        compiled = {"PYTHONPYCACHEPREFIX": str(self.folder / "bytecode")}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**inherited, **compiled, "PYTHONPATH": str(self.source), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode > MOST_EXIT_CODE:
            raise SystemExit(f"{' '.join(arguments)} with {self.source}:\n{process.stderr}")

    def check(self) -> None:
        """End the benchmark if Python would import another harness than this one."""
        self.python("-c", f"import harness; harness.__file__.startswith({str(self.source)!r}) or exit(2)")

    def build_store(self, size: Size) -> None:
        """Fill a new store with this checkout's own `benchmarks/store.py`."""
        path = os.pathsep.join(map(str, (self.source, self.source / "benchmarks")))
        (self.folder / "results").mkdir()
        self.python("-c", BUILD, str(size.nights), str(size.phones), PYTHONPATH=path)

    def time(self, command: Sequence[str]) -> float:
        """Return the wall time of one command, in seconds."""
        started = time.perf_counter()
        self.python("-m", "harness", *command)
        return time.perf_counter() - started


def main() -> None:
    """Build the store, time the commands, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, with its benchmarks/")
    parser.add_argument("--nights", type=int, default=FULL.nights, metavar="N", help="nights in the store, at least 2")
    parser.add_argument("--quick", action="store_true", help="a small store: under a minute")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else replace(FULL, nights=arguments.nights)
    with tempfile.TemporaryDirectory() as temporary:
        now = Checkout(THIS, Path(temporary) / "now")
        before = arguments.against and Checkout(arguments.against.resolve(), Path(temporary) / "before")
        prepare(now, before, size)
        walls = {name: measure(now, before, command, size.pairs) for name, command in COMMANDS.items()}
    figures = {key: value for name, of_both in walls.items() for key, value in summarize(name, *of_both).items()}
    show(figures, f"{size.phones * 40} cells a night, {size.nights} nights, medians of {size.pairs}")
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "commands", "figures": figures, "machine": machine}))


def prepare(now: Checkout, before: Checkout | None, size: Size) -> None:
    """Give each checkout its folder and its copy of the store, which the older one writes."""
    writer = before or now
    for checkout in filter(None, (now, before)):
        checkout.folder.mkdir()
        checkout.check()
    writer.build_store(size)
    if before:
        shutil.copytree(before.folder / "results", now.folder / "results")


def measure(
    now: Checkout, before: Checkout | None, command: Sequence[str], pairs: int
) -> tuple[list[float], list[float]]:
    """Time one command in turns; return the seconds of this checkout, and of the other."""
    ours, theirs = [], []
    for _ in range(pairs + 1):
        if before:
            theirs.append(before.time(command))
        ours.append(now.time(command))
    return ours[1:], theirs[1:]


def summarize(name: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the medians of one command, and the median of the ratios of its pairs."""
    figures = {f"{name}_s": statistics.median(ours)}
    if theirs:
        ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
        figures |= {
            f"{name}_before_s": statistics.median(theirs),
            f"{name}_ratio": statistics.median(ratios),
            f"{name}_ratio_low": min(ratios),
            f"{name}_ratio_high": max(ratios),
        }
    return figures


def show(figures: Mapping[str, float], title: str) -> None:
    """Print the figures for people."""
    table = Table("command", "before, s", "now, s", "now / before", "all pairs", title=title)
    for name in COMMANDS:
        keys = (f"{name}_before_s", f"{name}_s", f"{name}_ratio")
        shown = [f"{figures[key]:.2f}" if key in figures else "-" for key in keys]
        low, high = (figures.get(f"{name}_ratio_{end}") for end in ("low", "high"))
        table.add_row(name, *shown, "-" if low is None or high is None else f"{low:.2f} to {high:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
