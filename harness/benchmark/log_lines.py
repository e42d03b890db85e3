"""Turn a log as people keep it (terminal, logcat, CI, a quoted mail, a page's code block) into the tool's own lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from harness.benchmark.learned_prefix import learn_prefixes, without_prefix
from harness.benchmark.wrapped_text import unwrapped

_LEVEL_LETTER = r"(?P<level>[VDIWEFA])"
_TIME = r"\d\d:\d\d:\d\d[.,]\d{3,9}"
_STAMP = rf"(?:(?:\d{{4}}-)?\d\d-\d\d {_TIME}(?: ?[+-]\d\d:?\d\d)?|\d{{1,12}}\.\d{{3,9}})"
_PROCESS = r"\((?: *[\w.]{1,40}:)? *\d{1,10}(?:: *(?:0x)?[\da-f]{1,10})?\)"
_LAYOUTS = (
    re.compile(  # threadtime, with or without the user
        rf"{_STAMP}\s+(?:[\w.]{{1,40}}\s+)?\d{{1,10}}\s+\d{{1,10}}\s+{_LEVEL_LETTER} (?P<tag>[^:]{{0,80}}):(?: |$)"
    ),
    re.compile(  # time, and brief without its stamp
        rf"(?:{_STAMP}\s+)?{_LEVEL_LETTER}/(?P<tag>[^(:]{{0,80}}){_PROCESS}:(?: |$)"
    ),
    re.compile(  # Android Studio until 2022, and tag without its stamp
        rf"(?:{_STAMP}\s+\d+-\d+/\S{{1,120}}\s+)?{_LEVEL_LETTER}/(?P<tag>[^:(\ufe55]{{0,80}})[:\ufe55](?: |$)"
    ),
    re.compile(rf"{_LEVEL_LETTER}{_PROCESS} "),  # thread, and process, which puts the tag behind the message
    re.compile(  # Android Studio since 2022
        rf"(?:{_STAMP}|{_TIME})\s+\d+(?:-\d+)?\s+(?P<tag>\S{{1,80}})[^:]{{0,120}}?\s{_LEVEL_LETTER}(?:  |$)"
    ),
    re.compile(rf"{_TIME}\s+{_LEVEL_LETTER}(?:  |$)"),  # the same, compact
)
_LEVEL_LETTERS = frozenset("VDIWEFA")
_LONG_HEADER = re.compile(rf"\[ +{_STAMP} +(?:[\w.]{{1,40}}: *)?\d+: *\d+ {_LEVEL_LETTER}/(?P<tag>[^\]]{{0,80}}?) *\]$")
_TAG_BEHIND = re.compile(r"  \((?P<tag>[^()]{1,60})\)$")
_SHORTENED = re.compile(rf"(?:\.\.\. {{0,9}})?(?:{_LEVEL_LETTER} )?(?P<tag>tflite|litert) {{0,9}}: ")
"""As people shorten logcat: `... tflite  : `, `I tflite: `, `tflite    : `."""
_DAY_AND_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?Z| UTC| ?[+-]\d\d:?\d\d)?"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_STAMP_OF_CI = re.compile(
    rf"(?:{_DAY_AND_TIME}(?: \d\d[OE]\+?)?|\[(?:{_DAY_AND_TIME}|{_CLOCK}|\s{{0,9}}\d+\.\d{{3,9}})\]:?|{_CLOCK}"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \S{1,80} \S{1,80}\[\d+\]:)?"
    r"|[\w.-]{1,40} +\|)(?:[ \t]|$)"
)
_QUOTE = re.compile(r"(?:>[ \t]?)+")
_LEVEL = re.compile(r"(?P<level>INFO|WARN|WARNING|ERROR|FATAL|VERBOSE|DEBUG):\s?")
_ESCAPE = re.compile(r"\x1b\[[\d;]{0,20}[A-Za-z]")
_CARRIAGE_RETURNS = re.compile(r"\r+\n")
_ESCAPED_END = re.compile(r"\\{1,4}(?:r\\{1,4})?n")
_ESCAPED = {"t": "\t", '"': '"', "/": "/"}
_ESCAPED_CHARACTER = re.compile(r"\\{1,4}([t\"/])")
_MARKUP = re.compile(r"</?(?:br|p|pre|code|td|tr|li) ?/?>")
_FEWEST_ESCAPED = 3
"""Line breaks in one string that make it a log; a path of Windows holds one or two."""
_WORDS_OF_A_LOG = ("count=", "timings in us", "Loaded model ", "Benchmarking failed")
LONGEST_LINE = 10_000
"""Characters of a line that are read: no line of the tool is near that, and patterns must not drown in noise."""
_LEVEL_NAMES = {"V": "VERBOSE", "D": "VERBOSE", "I": "INFO", "W": "WARN", "E": "ERROR", "F": "FATAL", "A": "FATAL"}
_SAME_LEVEL = {"WARNING": "WARN", "DEBUG": "VERBOSE"}


class LogLine(NamedTuple):
    """One line without its prefixes. `level` is empty if the line has none; `tag` is logcat's; `raw` has the level."""

    text: str
    level: str = ""
    tag: str = ""
    raw: str = ""


def split_lines(text: str) -> list[LogLine]:
    """Return the lines of a log without indentation, quotes, time stamps, logcat prefixes and levels."""
    text = text.replace("**", "").replace("\xa0", " ").lstrip("\ufeff")
    if "<" in text:
        text = _MARKUP.sub("", text)
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    if "\r" in text:
        text = _CARRIAGE_RETURNS.sub("\n", text)
    found: list[LogLine] = []
    long_header: re.Match[str] | None = None
    pieces = [_unquoted(line[:LONGEST_LINE]) for line in _unescaped(text.splitlines())]
    for line in unwrapped(pieces, is_start=_has_prefix):
        stripped = line.strip()
        if header := _LONG_HEADER.match(stripped) if stripped.startswith("[ ") else None:
            long_header = header
        elif long_header and stripped:
            found.append(_line(stripped, long_header))
        elif long_header:
            long_header = None  # `logcat -v long` ends each message with an empty line
        else:
            found.append(_clean(stripped))
    return _without_repetition(_without_learned_prefix(found))


def _unescaped(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log; a whole log in one string of JSON or of a program is taken apart."""
    for line in lines:
        if line.count("\\n") >= _FEWEST_ESCAPED and is_named(line, _WORDS_OF_A_LOG):
            for part in _ESCAPED_END.split(line):
                yield _ESCAPED_CHARACTER.sub(lambda found: _ESCAPED[found[1]], part)
        else:
            yield line


def _without_learned_prefix(lines: list[LogLine]) -> list[LogLine]:
    prefixes = learn_prefixes([line.text for line in lines])
    return [_without_prefix(line, prefixes) for line in lines] if prefixes else lines


def _without_prefix(line: LogLine, prefixes: Sequence[re.Pattern[str]]) -> LogLine:
    text, level = without_prefix(line.text, prefixes)
    if text == line.text:
        return line
    level = _SAME_LEVEL.get(level, level) or line.level
    return _line(text, None)._replace(tag=line.tag) if _LEVEL.match(text) else LogLine(text, level, line.tag, text)


def _without_repetition(lines: Iterable[LogLine]) -> list[LogLine]:
    """Return the lines, each once where it stands twice in a row: iOS and some farms print what is logged as well."""
    found: list[LogLine] = []
    for line in lines:
        if found and line.text and found[-1].text == line.text:
            found[-1] = found[-1] if found[-1].level else line
        else:
            found.append(line)
    return found


def is_named(text: str, names: Iterable[str]) -> bool:
    """Return True if one of the names stands in a text."""
    return any(name in text for name in names)


def words_in(lines: Sequence[LogLine], words: Sequence[str]) -> list[str]:
    """Return those of the words that any line holds, so that the rest need not be looked for line by line."""
    text = "\n".join([line.text for line in lines])
    return [word for word in words if word in text]


def _unquoted(line: str) -> str:
    quote = _QUOTE.match(line.lstrip()) if ">" in line[:40] else None
    return line.lstrip()[quote.end() :] if quote else line


def _has_prefix(line: str) -> bool:
    return bool(_LEVEL.match(line) or _layout(line) or _STAMP_OF_CI.match(line) or _LONG_HEADER.match(line))


def _layout(text: str) -> re.Match[str] | None:
    if text[:1].isdigit() or (text[:1] in _LEVEL_LETTERS and text[1:2] in ("/", "(")):
        return next(filter(None, (layout.match(text) for layout in _LAYOUTS)), None)
    return _SHORTENED.match(text)


def _clean(text: str) -> LogLine:
    text = text.removeprefix("# ")
    match = _layout(text)
    if match is None and (stamp := _STAMP_OF_CI.match(text)):
        text = text[stamp.end() :].lstrip()
        match = _layout(text)
    return _line(text[match.end() :] if match else text, match)


def _line(text: str, prefix: re.Match[str] | None) -> LogLine:
    """Return a line behind whose `prefix`, if it has one, `text` stands."""
    tag = level = ""
    if prefix:
        named = prefix.groupdict()
        level = _LEVEL_NAMES.get(named.get("level") or "", "")
        if "tag" not in named and (behind := _TAG_BEHIND.search(text[-80:])):
            named, text = behind.groupdict(), text[: -len(behind[0])]
        tag = (named.get("tag") or "").strip()
        if text.startswith("\\t"):  # `logcat -v printable`
            text = text.replace("\\t", "\t")
    raw = text = text.strip()
    if match := _LEVEL.match(text):
        level = _SAME_LEVEL.get(match["level"], match["level"])
        text = text[match.end() :].strip()
    return LogLine(text, level, tag, text if prefix else raw)
