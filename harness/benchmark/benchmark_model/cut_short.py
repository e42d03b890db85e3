"""Drop the figure in which a pasted log was cut off: `max=3760` may be the beginning of `max=37600`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.benchmark.log_lines import LogLine

_FIGURE = re.compile(r"[-+]?\d[\d.]*(?:e[-+]?\d*)?$")
_LAST_NAME = re.compile(r"([\w() ]+)[=:] ?$")
_SENTENCES = ("count=", " timings in us: ", "The input model file size (MB): ", "emory footprint ")
_ENDS_A_LINE = ("std", "p95", "overall", "monitoring", "Inference (avg)", "inference (avg)", "Inference", "no stats")
"""Names of the figures that end a line of the tool, so that nothing has to follow."""


def without_cut_figure(lines: Sequence[LogLine]) -> list[LogLine]:
    """Return the lines of a text that does not end with a line break, without a figure that may be cut off."""
    found = list(lines)
    last = found[-1] if found else LogLine("")
    figure = _FIGURE.search(last.text[-_LONGEST:])
    if figure is None or not any(sentence in last.text for sentence in _SENTENCES):
        return found
    rest = last.text[: len(last.text) - len(figure[0])]
    if not _is_whole(rest, figure[0], found[:-1]):
        found[-1] = last._replace(text=rest.rstrip())
    return found


_LONGEST = 40
"""Characters of a figure and its name."""


def _is_whole(rest: str, figure: str, earlier: Sequence[LogLine]) -> bool:
    """Return True if a line may end with a figure, and no other line shows that the figure has more digits."""
    name = _LAST_NAME.search(rest[-_LONGEST:])
    if name is None or not name[1].strip().endswith(_ENDS_A_LINE):
        return False
    if name[1].endswith("std") and any("p95=" in line.text for line in earlier):
        return False  # a tool that prints percentiles prints them behind it
    if " timings in us: " in rest:
        return not any(f"avg={figure}" in line.text and f"avg={figure} " not in line.text for line in earlier)
    return True
