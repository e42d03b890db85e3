"""Turn a log as people keep it (terminal, logcat, a page's code block) into the tool's own lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LOGCAT = re.compile(
    r"^(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+"  # date and time
    r"(?:(?:\d+\s+\d+|\d+-\d+/\S+)\s+)?"  # process and thread, or process/package
    r"(?P<level>[VDIWEF])(?:/|\s)(?P<tag>[^:()]*)(?:\(\s*\d+\)\s*)?:\s"
)
_ELIDED_LOGCAT = re.compile(r"^\.\.\.\s*(?P<tag>tflite)\s*:\s")
_LEVEL = re.compile(r"^(?P<level>INFO|WARN|WARNING|ERROR|FATAL|VERBOSE):\s?")
LONGEST_LINE = 10_000
"""Characters of a line that are read: no line of the tool is near that, and patterns must not drown in noise."""
_LEVEL_NAMES = {"V": "VERBOSE", "D": "VERBOSE", "I": "INFO", "W": "WARN", "E": "ERROR", "F": "FATAL"}


@dataclass(frozen=True)
class LogLine:
    """One line without its prefixes. `level` is empty if the line has none; `tag` is logcat's."""

    text: str
    level: str = ""
    tag: str = ""
    raw: str = ""


def split_lines(text: str) -> list[LogLine]:
    """Return the lines of a log without indentation, comment marks, emphasis, logcat prefixes and levels."""
    return [_clean(line[:LONGEST_LINE]) for line in text.splitlines()]


def _clean(line: str) -> LogLine:
    text = line.strip().replace("**", "")
    text = text.removeprefix("# ")
    level = tag = ""
    match = _LOGCAT.match(text) or _ELIDED_LOGCAT.match(text)
    if match:
        tag = match["tag"].strip()
        level = _LEVEL_NAMES[match["level"]] if "level" in match.re.groupindex else ""
        text = text[match.end() :]
    match = _LEVEL.match(text)
    if match:
        level = match["level"].replace("WARNING", "WARN")
        text = text[match.end() :]
    return LogLine(text.strip(), level, tag, line.strip())
