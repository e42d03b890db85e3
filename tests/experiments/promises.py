"""Whether a test fails when a promise is broken: `python tests/experiments/promises.py [--only H3] [--quick]`.

`promises.toml` beside this file names, for each of the 22 promises of `docs/measurement.md`, what keeps it and one way
to switch that off. Each change is made alone, in a temporary copy of the tree; then the tests of that promise, those
called `test_promise_hNN_...`, are run there until one fails. Before, they must all pass there unchanged. A mechanism
without which every test still passes is one that could be lost unnoticed.

Virtual phones and the official tools are needed as for the tests. Exit code 1 where anything was not shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = Path(__file__).with_suffix(".toml")
TIMEOUT_S = 600
"""Of the tests of one promise: a mutation may make them wait for ever, which is a failure too."""
WITHOUT_PHONES = "not virtual_phone and not official_tool"
TESTS_FAILED = 1
"""pytest's exit code."""


@dataclass(frozen=True)
class Mutation:
    """One mechanism, and the change that switches it off."""

    promise: int
    mechanism: str
    file: str
    text: str
    """Stands exactly once in the file."""
    replacement: str


@dataclass(frozen=True)
class Outcome:
    """What the tests of a promise said to a mutation."""

    shown: bool
    test: str = ""
    """The first that failed."""
    how: str = ""
    """First line of what it said; where none failed, why not."""


def read_mutations() -> list[Mutation]:
    """Return all mutations of the table."""
    return [Mutation(**entry) for entry in tomllib.loads(MUTATIONS.read_text())["mutation"]]


def mutated(root: Path, mutation: Mutation) -> str:
    """Return the file with its change. Raises `SystemExit` where its text is not there exactly once."""
    before = (root / mutation.file).read_text()
    if (found := before.count(mutation.text)) != 1:
        raise SystemExit(
            f"H{mutation.promise}, {mutation.mechanism}: its text stands {found} times in {mutation.file}, not once. "
            f"Bring {MUTATIONS.name} up to date."
        )
    return before.replace(mutation.text, mutation.replacement)


def main() -> None:
    """Switch each mechanism off, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="HNN", help="one promise")
    parser.add_argument(
        "--quick", action="store_true", help="the first mechanism of each promise, and tests that need no phone"
    )
    arguments = parser.parse_args()
    mutations = [mutation for mutation in read_mutations() if arguments.only in (None, f"H{mutation.promise}")]
    if not mutations:
        parser.error(f"{arguments.only} is no promise: H1 to H22 are")
    if arguments.quick:
        mutations = list({mutation.promise: mutation for mutation in reversed(mutations)}.values())[::-1]
    for mutation in mutations:
        mutated(ROOT, mutation)  # before any time is spent
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="harness-promises-") as folder:
        tree = copy_tree(Path(folder))
        require_green(tree, [mutation.promise for mutation in mutations], quick=arguments.quick)
        outcomes = [try_out(tree, mutation, quick=arguments.quick) for mutation in mutations]
    show(mutations, outcomes)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "seconds": time.perf_counter() - started}
    print(json.dumps({"benchmark": "promises", "figures": figures(mutations, outcomes), "machine": machine}))
    sys.exit(not all(outcome.shown for outcome in outcomes))


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need, so that nothing here is ever changed."""
    left_out = shutil.ignore_patterns(".git", ".hypothesis", "__pycache__", ".*_cache")
    return Path(shutil.copytree(ROOT, folder / "tree", ignore=left_out))


def require_green(tree: Path, promises: Sequence[int], *, quick: bool) -> None:
    """Run the tests unchanged. Raises `SystemExit` where they do not pass, since a failure would then show nothing."""
    finished, failures = run_tests(tree, promises, quick=quick, timeout_s=None)
    if finished.returncode:
        said = "; ".join(f"{test}: {how}" for test, how in failures) or finished.stdout[-1000:]
        raise SystemExit(f"The tests do not even pass unchanged: {said}")
    print(f"unchanged: {finished.stdout.strip().splitlines()[-1].strip('= ')}", file=sys.stderr)


def try_out(tree: Path, mutation: Mutation, *, quick: bool) -> Outcome:
    """Switch one mechanism off and run the tests of its promise until one fails."""
    with switched_off(tree, mutation):
        try:
            finished, failures = run_tests(tree, [mutation.promise], "-x", quick=quick)
        except subprocess.TimeoutExpired:
            return Outcome(shown=True, how=f"the tests did not end within {TIMEOUT_S} s")
    if finished.returncode == TESTS_FAILED and failures:
        outcome = Outcome(True, *failures[0])
    else:
        outcome = Outcome(False, how=finished.stdout.strip().splitlines()[-1].strip("= "))
    mark = "fails as it must" if outcome.shown else "NOT SHOWN"
    print(f"H{mutation.promise} {mutation.mechanism}: {mark}: {outcome.test} {outcome.how}", file=sys.stderr)
    return outcome


@contextmanager
def switched_off(tree: Path, mutation: Mutation) -> Iterator[None]:
    """Change one file for the length of a `with` block."""
    file = tree / mutation.file
    before = file.read_text()
    file.write_text(mutated(tree, mutation))
    try:
        yield
    finally:
        file.write_text(before)


def run_tests(
    tree: Path, promises: Sequence[int], *options: str, quick: bool, timeout_s: float | None = TIMEOUT_S
) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    """Run the tests of some promises; return also which failed and the first line of why, without those in error."""
    names = [f"test_promise_h{promise}_" for promise in dict.fromkeys(promises)]
    files = [
        file
        for file in sorted((tree / "tests").rglob("test_*.py"))
        if any(f"def {name}" in file.read_text() for name in names)
    ]
    files.sort(key=lambda file: "end_to_end" in file.parts)  # the slow ones last
    report = tree / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={report}",
        *options,
        *(["-m", WITHOUT_PHONES] if quick else []),
        "-k",
        " or ".join(names),
        *map(str, files),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
    failures = [
        (case.get("name", ""), first_line(failure.get("message", "")))
        for case in cases
        for failure in case.iter("failure")
    ]
    report.unlink(missing_ok=True)
    return finished, failures


def first_line(message: str) -> str:
    """Return the first line of what an assertion said, without what differs from run to run."""
    lines = message.strip().splitlines()
    return re.sub(r" at 0x[0-9a-f]+", "", lines[0])[:100] if lines else ""


def figures(mutations: Sequence[Mutation], outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return the counts, and every mechanism that no test misses."""
    pairs = list(zip(mutations, outcomes, strict=True))
    return {
        "promises": len({mutation.promise for mutation in mutations}),
        "mechanisms": len(pairs),
        "shown": sum(outcome.shown for outcome in outcomes),
        "not_shown": [f"H{mutation.promise} {mutation.mechanism}" for mutation, outcome in pairs if not outcome.shown],
    }


def show(mutations: Sequence[Mutation], outcomes: Sequence[Outcome]) -> None:
    """Print one row a mechanism."""
    table = Table("promise", "switched off", "in", "fails as it must", "test", "how")
    for mutation, outcome in zip(mutations, outcomes, strict=True):
        table.add_row(
            f"H{mutation.promise}",
            mutation.mechanism,
            mutation.file,
            "yes" if outcome.shown else "NO",
            outcome.test.removeprefix(f"test_promise_h{mutation.promise}_"),
            outcome.how,
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
