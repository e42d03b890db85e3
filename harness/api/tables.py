"""What all results share: a table for pandas, and the same table in notebooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class TableResult(ABC):
    """A result that notebooks show as a table."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return the result as a pandas table."""

    @abstractmethod
    def caption(self) -> str:
        """Return one sentence that stands above the table."""

    def _repr_html_(self) -> str:
        table: str = self.to_frame().to_html(index=False, na_rep="-", max_rows=60, border=0)
        return f"<p>{escape(self.caption())}</p>{table}"
