"""Break each promise and expect a failing test: `python tests/experiments/promises.py [--only H3] [--quick]`.

`promises.toml` next to this file names, for each of the promises of `docs/measurement.md`, what keeps it and one way
to switch that off. Each change is made alone, in a temporary copy of the tree; then the tests of that promise, those
called `test_promise_hNN_...`, are run there until one fails. Before, they must all pass there unchanged. A mechanism
without which every test still passes is one that could be lost unnoticed.

Virtual phones and the official tools are needed as for the tests. Exit code 1 if anything was not shown.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
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
    symbol: str
    """`MODULE:NAME` of the definition to change."""
    text: str
    """Code that occurs exactly once in the definition, as `ast.unparse` writes it."""
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


def find_symbol(tree: ast.Module, name: str) -> ast.stmt | None:
    """Return the definition of `function`, `Class`, `Class.method` or `CONSTANT`; None if there is none."""
    scope: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in scope if part in _names(node)), None)
        scope = getattr(found, "body", [])
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def replace_code(code: str, text: str, replacement: str) -> str:
    """Replace `text`, which must occur once in `code`; spaces, line breaks and the kind of quotes do not matter.

    Raises `ValueError` with the number of places.
    """
    kept = [(index, "'" if sign == '"' else sign) for index, sign in enumerate(code) if not sign.isspace()]
    squeezed = "".join(sign for _, sign in kept)
    wanted = "".join("'" if sign == '"' else sign for sign in text if not sign.isspace())
    if (count := squeezed.count(wanted)) != 1:
        raise ValueError(str(count))
    start = squeezed.index(wanted)
    first, last = kept[start][0], kept[start + len(wanted) - 1][0]
    return code[:first] + replacement.strip() + code[last + 1 :]


def mutated(root: Path, mutation: Mutation) -> tuple[Path, str]:
    """Return the file of a mutation below `root` and its changed source. Raises `SystemExit` if it cannot apply."""
    module, _, name = mutation.symbol.partition(":")
    file = root / f"{module.replace('.', '/')}.py"
    source = file.read_text() if file.is_file() else ""
    node = find_symbol(ast.parse(source), name)
    label = f"H{mutation.promise}, {mutation.mechanism}"
    if node is None:
        raise SystemExit(f"{label}: there is no {mutation.symbol}. Bring {MUTATIONS.name} up to date.")
    try:
        changed = replace_code(ast.unparse(node), mutation.text, mutation.replacement)
    except ValueError as error:
        raise SystemExit(
            f"{label}: its code occurs {error} times in {mutation.symbol}, not once. Bring {MUTATIONS.name} up to date."
        ) from None
    start = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    lines = source.splitlines(keepends=True)
    indented = textwrap.indent(changed, " " * node.col_offset) + "\n"
    return file, "".join([*lines[: start - 1], indented, *lines[node.end_lineno :]])


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
        parser.error(f"{arguments.only} is no promise of docs/measurement.md")
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
    left_out = shutil.ignore_patterns(".git", ".venv", ".hypothesis", "__pycache__", ".*_cache")
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
    file, changed = mutated(tree, mutation)
    before = file.read_text()
    file.write_text(changed)
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
    files.sort(key=lambda file: "scenarios" in file.parts)  # the slow ones last
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
        *(["-m", WITHOUT_PHONES] if quick else ["-m", ""]),
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
            mutation.symbol,
            "yes" if outcome.shown else "NO",
            outcome.test.removeprefix(f"test_promise_h{mutation.promise}_"),
            outcome.how,
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
