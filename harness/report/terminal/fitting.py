"""Tables that fit the terminal: what matters least is left out first, and what was left out is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_ENDLESS = 10_000
"""Wider than any table, so that rich tells how wide one would be."""


@dataclass(frozen=True)
class FittingColumn:
    """One column. Those of less worth are left out first; of equal worth, the last one."""

    heading: str
    worth: int
    is_numeric: bool = False
    may_fold: bool = False
    """Whether a long text may go on in the next line, between words."""


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
class FittedTable:
    """Sections with the same columns: as many as fit, chosen when the table is drawn.

    The column of most worth always stays; where even that is too wide, its words are broken.
    """

    columns: Sequence[FittingColumn]
    sections: Sequence[Section]
    is_plain: bool = False
    """Draw rows alone: no headings, no frame, and no word on what was left out."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw each section, then say what was left out."""
        kept = self._fitting(console, options)
        for section in self.sections:
            yield self._table(section, kept)
        left_out = [" ".join(column.heading.split()) for column in self.columns if column not in kept]
        if left_out and not self.is_plain:
            told = f"Too narrow for: {', '.join(left_out)} (see the JSON)."
            yield Text(told, style="dim")

    def _fitting(self, console: Console, options: ConsoleOptions) -> list[FittingColumn]:
        kept = list(self.columns)
        while len(kept) > 1 and self._width(console, options, kept) > options.max_width:
            kept.remove(min(reversed(kept), key=lambda column: column.worth))
        return kept

    def _width(self, console: Console, options: ConsoleOptions, kept: Sequence[FittingColumn]) -> int:
        endless = options.update_width(_ENDLESS)
        tables = [self._table(section, kept, with_title=False) for section in self.sections]
        return max((Measurement.get(console, endless, table).minimum for table in tables), default=0)

    def _longest(self, index: int) -> int:
        """Return the width of a column whose texts are not folded."""
        heading = "" if self.is_plain else self.columns[index].heading
        texts = [heading, *(row.texts[index] for section in self.sections for row in section.rows)]
        return max(cell_len(line) for text in texts for line in text.split("\n"))

    def _table(self, section: Section, kept: Sequence[FittingColumn], *, with_title: bool = True) -> Table:
        table = Table(
            title=Text(section.title) if section.title and with_title else None,
            title_justify="left",
            title_style="bold",
            box=None if self.is_plain else SIMPLE_HEAD,
            show_header=not self.is_plain,
            pad_edge=False,
            collapse_padding=True,
            padding=(0, 1, 0, 0),
        )
        indexes = [index for index, column in enumerate(self.columns) if column in kept]
        for index in indexes:
            column = self.columns[index]
            justify: Literal["left", "right"] = "right" if column.is_numeric else "left"
            whole = None if column.may_fold or len(kept) == 1 else self._longest(index)
            table.add_column(column.heading, justify=justify, min_width=whole, overflow="fold")
        for row in section.rows:
            table.add_row(*(Text(row.texts[index]) for index in indexes), style=row.style)
        return table


_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_SPAN = 0.10
"""Share of the lowest value that the full height stands for at least, so that noise does not look like a cliff."""


def curve(values: Sequence[float], *, width: int = 60) -> str:
    """Draw positive values from left to right, the lowest at the bottom; more than `width` are averaged in groups."""
    if not values:
        return ""
    groups = np.array_split(np.asarray(values, dtype=float), min(width, len(values)))
    means = np.array([group.mean() for group in groups])
    low = means.min()
    span = max(means.max() - low, _LEAST_SPAN * low)
    heights = np.round((means - low) / span * (len(_LEVELS) - 1)).astype(int)
    return "".join(_LEVELS[height] for height in heights)
