"""Tables that fit the terminal: the least important columns are left out first, and a line names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

_GAP = "  "
"""Between two columns."""

NEEDED = 6
"""From this worth on a column is left out only if it does not fit even after the names moved to a line of their own."""


@dataclass(frozen=True)
class FittingColumn:
    """One column. Those of less worth are left out first; of equal worth, the last one."""

    heading: str
    worth: int
    is_numeric: bool = False
    may_fold: bool = False
    """True if a long text may go on in the next line, between words."""
    is_name: bool = False
    """True if it names the row: in a narrow terminal, names stand together in a line of their own."""


@dataclass(frozen=True)
class FittingRow:
    """One text for each column."""

    texts: Sequence[str]
    style: str = ""


@dataclass(frozen=True)
class Section:
    """Rows under a title of their own."""

    rows: Sequence[FittingRow]
    title: str = ""


@dataclass(frozen=True)
class _Layout:
    """The columns that share the line of a row, and those that stand in a line above it."""

    above: Sequence[int]
    kept: Sequence[int]
    widths: Sequence[int]
    """Of `kept`."""


@dataclass(frozen=True)
class FittedTable:
    """Sections with the same columns: as many as fit, chosen when the table is drawn.

    The column of most worth always stays; if even that is too wide, its words are broken.
    """

    columns: Sequence[FittingColumn]
    sections: Sequence[Section]
    is_plain: bool = False
    """Draw rows alone: no headings, no frame, and no word on what was left out."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw each section, then say what was left out.

        Lines are put together here, not by rich's own table: that measures every cell several times, which takes
        seconds for hundreds of rows.
        """
        layout = self._fitting(options.max_width)
        for section in self.sections:
            yield from self._drawn(console, section, layout, options.max_width)
        shown = {*layout.above, *layout.kept}
        left_out = [" ".join(column.heading.split()) for at, column in enumerate(self.columns) if at not in shown]
        if left_out and not self.is_plain:
            yield Text(f"Too narrow for: {', '.join(left_out)} (see the JSON).", style="dim")

    def _fitting(self, max_width: int) -> _Layout:
        """Leave out columns by their worth; if those that are needed do not fit, move the names above them first."""
        needs = [self._needed(index) for index in range(len(self.columns))]
        names = [index for index, column in enumerate(self.columns) if column.is_name]
        kept = self._kept(needs, range(len(needs)), max_width, least=NEEDED if names else None)
        above: Sequence[int] = ()
        if names and self._width(needs, kept) > max_width:
            above = names
            kept = self._kept(needs, [index for index in range(len(needs)) if index not in names], max_width)
        room = max_width - self._width(needs, kept)
        widths = []
        for index in kept:
            least, whole = needs[index]
            more = max(0, min(room, whole - least))
            room -= more
            widths.append(least + more if len(kept) > 1 else min(whole, max(1, max_width - self._frame(kept))))
        return _Layout(above, kept, widths)

    def _kept(
        self, needs: Sequence[tuple[int, int]], indexes: Sequence[int], max_width: int, *, least: int | None = None
    ) -> list[int]:
        """Return the columns that fit; those worth at least `least` and names stay, also if they do not."""
        kept = list(indexes)
        while len(kept) > 1 and self._width(needs, kept) > max_width:
            worst = min(reversed(kept), key=lambda index: self.columns[index].worth)
            if least is not None and self.columns[worst].worth >= least:
                break
            kept.remove(worst)
        return kept

    def _width(self, needs: Sequence[tuple[int, int]], kept: Sequence[int]) -> int:
        return self._frame(kept) + sum(needs[index][0] for index in kept)

    def _frame(self, kept: Sequence[int]) -> int:
        """Return the width of all that is no text."""
        return (len(kept) - 1) * len(_GAP if not self.is_plain else " ") + (0 if self.is_plain else 2)

    def _needed(self, index: int) -> tuple[int, int]:
        """Return the least width of a column, by its longest word if it may fold, and that of its longest text."""
        column = self.columns[index]
        texts = {row.texts[index] for section in self.sections for row in section.rows}
        texts |= set() if self.is_plain else {column.heading}
        whole = max((cell_len(line) for text in texts for line in text.split("\n")), default=0)
        if not column.may_fold:
            return whole, whole
        return max((cell_len(word) for text in texts for word in text.split()), default=0), whole

    def _drawn(self, console: Console, section: Section, layout: _Layout, max_width: int) -> Iterator[Segment]:
        kept = [self.columns[index] for index in layout.kept]
        edge, gap = ("", " ") if self.is_plain else (" ", _GAP)
        total = sum(layout.widths) + len(gap) * (len(layout.widths) - 1) + 2 * len(edge)

        def line(text: str, style: Style | None = None) -> Iterator[Segment]:
            yield Segment(text, style)
            yield Segment.line()

        def above(texts: Sequence[str], style: Style | None) -> Iterator[Segment]:
            names = _GAP.join(texts[index] for index in layout.above)
            for part in _wrapped(console, names, max_width - len(edge)) if layout.above else ():
                yield from line(f"{edge}{part}", style)

        def row(texts: Sequence[str], style: Style | None, *, at_bottom: bool = False) -> Iterator[Segment]:
            yield from above(texts, style)
            shown_texts = [texts[index] for index in layout.kept]
            cells = [_wrapped(console, text, width) for text, width in zip(shown_texts, layout.widths, strict=True)]
            height = max(map(len, cells))
            for place in range(height):
                shown = []
                for lines, width, column in zip(cells, layout.widths, kept, strict=True):
                    at = place - (height - len(lines) if at_bottom else 0)
                    text = lines[at] if 0 <= at < len(lines) else ""
                    blank = " " * (width - cell_len(text))
                    shown.append(blank + text if column.is_numeric else text + blank)
                yield from line(f"{edge}{gap.join(shown)}{edge}", style)

        if not self.is_plain:
            bold = console.get_style("bold")
            for title in _wrapped(console, section.title, max_width) if section.title else ():
                yield from line(title, bold)
            yield from line(" " * total)
            yield from row([column.heading for column in self.columns], bold, at_bottom=True)
            yield from line(f" {'─' * (total - 2)} ")
        for fitting_row in section.rows:
            style = console.get_style(fitting_row.style) if fitting_row.style else None
            yield from row(fitting_row.texts, style)
        if not self.is_plain:
            yield from line(" " * total)


def _wrapped(console: Console, text: str, width: int) -> list[str]:
    """Return the lines of a text, folded between words, inside a word only if it alone is too wide."""
    if "\n" not in text and cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_SPAN = 0.10
"""Share of the lowest value that the full height stands for at least, so that noise does not look like a cliff."""


def curve(values: Sequence[float], *, width: int = 60) -> str:
    """Draw positive values from left to right, the lowest at the bottom; more than `width` are averaged in groups."""
    if not values:
        return ""
    groups = min(width, len(values))
    ends = [len(values) * index // groups for index in range(groups + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(ends)]
    low = min(means)
    span = max(max(means) - low, _LEAST_SPAN * low)
    return "".join(_LEVELS[round((mean - low) / span * (len(_LEVELS) - 1))] for mean in means)
