"""Make a table fit the terminal: what matters least goes first, and what went is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

GAP = 1
"""Columns of the terminal between two of the table."""
FOLDED_TO = 8
"""A text that may fold is never squeezed to less."""


@dataclass(frozen=True)
class Measured:
    """One column of a table as texts, and what it is worth."""

    heading: str
    texts: Sequence[str]
    worth: int
    """Columns of less worth go first; of equal worth, the last one."""
    may_fold: bool = False
    """Whether a long text may go on in the next line."""

    @property
    def width(self) -> int:
        """The columns of the terminal that it needs at least."""
        lines = [line for text in (self.heading, *self.texts) for line in text.split("\n")]
        longest = max(map(cell_len, lines), default=0)
        if not self.may_fold:
            return longest
        words = [word for line in lines for word in line.split()]
        return min(longest, max(FOLDED_TO, max(map(cell_len, words), default=0)))


def fit(columns: Sequence[Measured], width: int) -> list[int]:
    """Return the indexes of the columns that fit side by side, in their order. The column of most worth always stays.

    Where even that is too wide the terminal folds it.
    """
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(columns[index].width + GAP for index in kept) - GAP > width:
        kept.remove(min(reversed(kept), key=lambda index: columns[index].worth))
    return kept
