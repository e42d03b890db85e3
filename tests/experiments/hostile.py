"""Be hostile on purpose: `python tests/experiments/hostile.py [--only 14,15] [--quick] [--list]`.

63 tries to make harness lie, hang, crash, lose results or touch what is not its own: tools that print nonsense or
without end, files swapped on the phone in mid-sweep, slow cables, full disks, stores that are removed or overwritten,
odd streams, spec files and model files made to do harm. Each says what was promised; it held if the promise did.

Everything runs in folders of its own, on virtual phones and this host, with an adb server of its own. `--quick` runs
those that take a few seconds each. The last line is one JSON object; exit code 1 if a promise did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hostile_tries.bench import Bench, SkippedError, Try, all_tries

LONGEST_SENTENCE = 110


def main() -> None:
    """Run the tries, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="numbers of tries, separated by commas")
    parser.add_argument("--quick", action="store_true", help="those that take a few seconds each")
    parser.add_argument("--list", action="store_true", help="say what would be tried")
    arguments = parser.parse_args()
    only = {int(number) for number in arguments.only.split(",")} if arguments.only else None
    chosen = [
        one
        for one in all_tries()
        if (only is None or one.number in only) and not (arguments.quick and only is None and one.is_slow)
    ]
    if arguments.list:
        for one in chosen:
            print(f"{one.number:3} {one.what}: {one.promised}")
        return
    started = time.perf_counter()
    outcomes: dict[int, tuple[str, str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="harness-hostile-") as folder, Bench(Path(folder)) as bench:
        for one in chosen:
            outcomes[one.number] = outcome = judge(one, bench)
            print(f"{one.number:3} {outcome[0]:8} {outcome[2]:5.0f} s  {one.what}  {outcome[1]}", file=sys.stderr)
    show(chosen, outcomes)
    counts = Counter(outcome for outcome, _, _ in outcomes.values())
    figures = {
        "tried": len(chosen),
        "held": counts["held"],
        "failed": sorted(number for number, (outcome, _, _) in outcomes.items() if outcome == "FAILED"),
        "skipped": sorted(number for number, (outcome, _, _) in outcomes.items() if outcome == "skipped"),
    }
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    print(json.dumps({"benchmark": "hostile", "figures": figures, "machine": machine}))
    sys.exit(bool(figures["failed"]))


def judge(one: Try, bench: Bench) -> tuple[str, str, float]:
    """Run one try; return how it went, what was seen if it did not hold, and how long it took."""
    started = time.perf_counter()
    try:
        one.run(bench)
        outcome, seen = "held", ""
    except SkippedError as reason:
        outcome, seen = "skipped", str(reason)
    except Exception as error:
        outcome, seen = "FAILED", f"{type(error).__name__}: {error}".replace("\n", " ")[:LONGEST_SENTENCE]
    bench.tidy()
    return outcome, seen, time.perf_counter() - started


def show(chosen: list[Try], outcomes: dict[int, tuple[str, str, float]]) -> None:
    """Print one row per try."""
    table = Table("#", "tried", "promised", "outcome", "seen")
    for one in chosen:
        outcome, seen, _ = outcomes[one.number]
        table.add_row(str(one.number), escape(one.what), escape(one.promised), outcome, escape(seen))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
