"""The command blocks of the documents: found, and run as a reader would.

A block is fenced as `sh`, `bash` or `console`. A comment in the line before it may say

* `<!-- needs: phone -->`: what a test cannot give; the block is not run. Allowed words are in `NEEDS`.
* `<!-- given: two sweeps -->`: what the test lays ready first, once a page. Allowed words are in `GIVEN`.
* `<!-- exits: 1 -->`: the exit code that its last command has.
* `<!-- output: varies -->`: the output shown is that of one run; words of another may differ.

Several stand side by side, separated by semicolons. A block without `needs` is run; all blocks of one page share a
folder, its files and exported variables. In a `console` block, lines after `$ ` are commands, and each word that is
shown below one must be in what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NEEDS = frozenset({"phone", "training", "network", "time", "root", "own files"})
GIVEN = frozenset({"two sweeps", "official tools", "virtual phones", "attached phone", "a log"})
LANGUAGES = ("sh", "bash", "console")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*).*$")
_MARK = re.compile(r"^\s*<!-- (?P<text>(?:needs|given|exits|output): .*) -->$")
_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{3,}")


class BadMarkError(ValueError):
    """A mark that says nothing that is known."""


@dataclass(frozen=True)
class Block:
    """One block of commands."""

    page: Path
    line: int
    language: str
    text: str
    needs: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    exits: int = 0
    output_varies: bool = False

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """Return what is typed: the whole block, or each command of a `console` block."""
        if self.language != "console":
            yield Command(self.text)
            return
        command: Command | None = None
        for line in self.text.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command
                command = Command(line.removeprefix("$ "))
            elif command is None:
                raise BadMarkError(f"{self.place}: output without a command")
            else:
                command.shown.append(line)
        if command:
            yield command


@dataclass(frozen=True)
class Command:
    """What is typed, and what is shown of its output."""

    text: str
    shown: list[str] = field(default_factory=list)

    def missing_words(self, output: str) -> set[str]:
        """Return the words that are shown and not printed."""
        return set(_WORD.findall("\n".join(self.shown))) - set(_WORD.findall(output))


def blocks_of(page: Path) -> list[Block]:
    """Return the command blocks of a page, in order. Raises `BadMarkError`."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return list(_blocks(page, lines))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if not opening:
            number += 1
            continue
        closing = next(end for end in range(number + 1, len(lines)) if lines[end].strip() == "```")
        if opening["language"] in LANGUAGES:
            mark = _MARK.match(lines[number - 1]) if number else None
            text = "\n".join(line.removeprefix(opening["indent"]) for line in lines[number + 1 : closing])
            yield Block(page, number + 1, opening["language"], text, **_meaning(mark["text"] if mark else ""))
        number = closing + 1


def _meaning(mark: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in filter(None, mark.split("; ")):
        key, value = part.split(": ", 1)
        words = frozenset(value.split(", "))
        if key in ("needs", "given") and words <= {"needs": NEEDS, "given": GIVEN}[key]:
            found[key] = words
        elif key == "exits" and value.isdecimal():
            found[key] = int(value)
        elif part == "output: varies":
            found["output_varies"] = True
        else:
            raise BadMarkError(f"unknown mark: {part}")
    return found
