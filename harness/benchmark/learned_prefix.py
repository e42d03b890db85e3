"""Remove what an editor, a page or a logger put in front of each line of a log: numbers, list marks, names of files.

Nobody can list them all. They are learned from the log itself: several lines that hold a sentence of the tool behind
the same kind of text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_OPENINGS = re.compile(
    r"STARTING!|Log parameter values verbosely: |Graph: \[|Loaded model |Initialized TensorFlow Lite runtime"
    r"|Created TensorFlow Lite |Explicitly applied |The input model file size|Initialized session in "
    r"|Running benchmark for at least |count=\d|(?:Inference|Average inference) timings in us: "
    r"|Note: as the benchmark tool|Memory footprint delta |Peak memory footprint |Overall peak memory "
    r"|={20,} (?:Run Order|Top by|Summary by) |Number of nodes executed: |Timings \(microseconds\): |Memory \(bytes\): "
)
_WORDS = (
    *("count=", "session in ", "timings in us", " model ", "Running ben", "Created Ten", "footprint", "STARTING!"),
    *("======", "nodes executed"),
)
_FEWEST = 3
"""Lines that must begin alike: fewer may be prose that quotes the tool."""
_MOST_KINDS, _WIDEST = 4, 160
"""Kinds that one paste mixes, and characters of a prefix: with more, noise would keep the parser busy."""
_LEVEL = r"(?:INFO|WARNING|WARN|ERROR|FATAL|VERBOSE|DEBUG)"
_OWN_LEVEL = re.compile(rf"{_LEVEL}:\s?$")
_PARTS = re.compile(rf"(\d+|\s+|\b{_LEVEL}\b)")
_CLOSING = "`|"
"""A line that such a mark precedes ends with it, too."""


def learn_prefixes(lines: Sequence[str]) -> list[re.Pattern[str]]:
    """Return the kinds of prefix that several of the tool's lines share; the group `level` is the logger's, if any."""
    kinds: Counter[str] = Counter()
    for line in lines:
        if any(word in line for word in _WORDS) and (opening := _OPENINGS.search(line, 0, _WIDEST)):
            prefix = _OWN_LEVEL.sub("", line[: opening.start()])
            # A name and a colon before `count=` are the tool's own: `gpu-default: count=50`.
            if prefix.strip() and not (prefix.endswith(": ") and opening[0].startswith("count=")):
                kinds[_kind(prefix)] += 1
    return [re.compile(kind) for kind, count in kinds.most_common(_MOST_KINDS) if count >= _FEWEST]


def without_prefix(line: str, prefixes: Sequence[re.Pattern[str]]) -> tuple[str, str]:
    """Return a line without the first prefix that it has, and the level that the prefix names."""
    for pattern in prefixes:
        if match := pattern.match(line):
            closing = "".join(mark for mark in _CLOSING if mark in match[0])
            rest = line[match.end() :].strip()
            return (rest.rstrip(closing).rstrip() if closing else rest), match.groupdict().get("level") or ""
    return line, ""


def _kind(prefix: str) -> str:
    """Return a pattern for a prefix in which numbers, blanks and the level may differ."""
    pieces: list[str] = []
    for part in _PARTS.split(prefix):
        if part.isdecimal():
            pieces.append(r"\d+")
        elif part.isspace():
            pieces.append(r"\s+")
        elif _PARTS.fullmatch(part):
            pieces.append(_LEVEL if "(?P<level>" in "".join(pieces) else f"(?P<level>{_LEVEL})")
        else:
            pieces.append(re.escape(part))
    return "".join(pieces)
