"""Join the lines of a log that a terminal or a mail program has wrapped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_NUMBER = r"[-+\d.e]{1,30}"
_LONG_SENTENCES = re.compile(
    rf"Running benchmark for at least {_NUMBER} iterations and at least {_NUMBER} seconds but terminate if exceeding "
    rf"{_NUMBER} seconds\.|Note: as the benchmark tool itself affects memory footprint, the following is only "
    r"APPROXIMATE to the actual memory footprint of the model at runtime\. Take the information at your discretion\."
    rf"|nference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, Inference "
    rf"\(avg\): {_NUMBER}|Replacing {_NUMBER} out of {_NUMBER} node\(s\) with delegate \(\S{{1,99}}\) node, yielding "
    rf"|NN API returned error \w{{1,99}} at line {_NUMBER} while (?:completing NNAPI compi|running compu|adding op)"
    r"|delegate, and the model graph will be \w{1,20} executed by the delegate"
    r"|Restored original execution plan after delegate application failure\."
)
"""What the tool prints in one line: a way to unwrap a log is right if more of these are whole afterwards."""
_HINTS = (
    " seconds but",
    "APPROXIMATE",
    "First inference: ",
    "node(s) with",
    " at line ",
    "model graph",
    "Restored orig",
)
_WIDEST, _LONGEST = 300, 1_000_000
"""Characters of a line and of a log: what is wider was not wrapped, and what is longer nobody pastes."""
_STARTS = re.compile(
    r"\s{2}|\t|\$|=|STARTING!|Log param|M(?:in|ax) |Num |Graph:|Input |Output |#threads|Use |Enable |Signature "
    r"|NNAPI a|Loaded |Initialized |Created |Going to |Explicitly |Though |The input model|Running ben|count="
    r"|Inference timings|Average |Note: |Memory |Peak |Overall |Profiling |Operator-wise |Number of |Timings "
    r"|Replacing |Failed to |Benchmark"
)
_STARTS_BETWEEN_PREFIXES = re.compile(r"\s{4}|\t|\$ |===")
_QUOTE_MARK = 3
"""Characters by which a line may be shorter: a mail program counts its `> `, and continues without."""


@dataclass(frozen=True)
class _Wrap:
    width: int
    starts: re.Pattern[str] | None
    """How lines begin that have no prefix such as a level, for a log wrapped between words, as mail programs do.

    None: it was cut after `width` characters, as terminals do.
    """

    def broke(self, line: str, following: str) -> bool:
        """Return True if a line ended only because `following` did not fit any more."""
        if self.starts is None:
            return self.width - 1 <= len(line) <= self.width
        fits = len(line) + len(following.split(None, 1)[0]) <= self.width - _QUOTE_MARK
        return not fits and not self.starts.match(following)

    def undo(self, lines: Sequence[str], is_start: Callable[[str], bool]) -> list[str]:
        """Return the lines as they were before."""
        whole: list[list[str]] = []
        for line in lines:
            if whole and line.strip() and self.broke(whole[-1][-1], line) and not is_start(line.strip()):
                whole[-1].append(line)
            else:
                whole.append([line])
        return [self._join(pieces) for pieces in whole]

    def _join(self, pieces: Sequence[str]) -> str:
        if self.starts is None:
            return "".join([*(piece.ljust(self.width) for piece in pieces[:-1]), pieces[-1]])
        return " ".join(piece.strip() for piece in pieces)


def unwrapped(lines: list[str], *, is_start: Callable[[str], bool]) -> list[str]:
    """Return the lines as they were before a log was wrapped; as they are if it was not.

    `is_start` recognises a line that begins with a prefix, such as a level.
    """
    best, most = lines, 0
    for wrap in _possible_wraps(lines):
        most = most or _whole_sentences(lines)
        undone = wrap.undo(lines, is_start)
        if (found := _whole_sentences(undone)) > most:
            best, most = undone, found
    return best


def _possible_wraps(lines: Sequence[str]) -> Iterator[_Wrap]:
    widths = sorted({len(line) for line in lines}, reverse=True)[:2]
    text = "\n".join(lines) if widths and widths[0] <= _WIDEST else ""
    if len(text) <= _LONGEST and any(hint in text for hint in _HINTS):
        yield from (_Wrap(width, None) for width in widths[:1])
        for starts in (_STARTS, _STARTS_BETWEEN_PREFIXES):
            yield from (_Wrap(width, starts) for width in widths)


def _whole_sentences(lines: Sequence[str]) -> int:
    return len(_LONG_SENTENCES.findall("\n".join(lines)))
