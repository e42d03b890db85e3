"""A figure of the page: Vega-Lite views over plain data, with the same data as a table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.sweep_data import Row

Spec = Mapping[str, Any]
"""A Vega-Lite specification without its data. https://vega.github.io/vega-lite/docs/"""

ROW_HEIGHT_PX = 22
MOST_MARKS = 4000
"""Marks of one chart that a browser still draws in well under a second; more are thinned out, and that is said."""


@dataclass(frozen=True)
class Figure:
    """One chart, for a group (such as a device) and a view (such as a pair of axes) that the reader chooses."""

    identity: str
    title: str
    caption: str
    """What it shows and how it is read."""
    views: Mapping[str, Spec]
    data: Mapping[str, Sequence[Row]]
    """By group."""
    columns: Sequence[tuple[str, str]]
    """Field and heading of each column of the table."""
    group_name: str = "Device"
    view_name: str = "Axes"
    unavailable: str = ""
    """One sentence that stands in place of the chart where there is nothing to draw."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(self.data.values())

    def document(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        return {
            "title": self.title,
            "views": self.views,
            "data": {name: rows for name, rows in self.data.items() if rows},
            "columns": self.columns,
        }


@dataclass(frozen=True)
class Axis:
    """One measure along an axis."""

    name: str
    field_name: str
    title: str
    low: str = ""
    """Fields of the interval's ends, where there is one."""
    high: str = ""
    is_logarithmic: bool = field(default=False)
    """Whether values that lie far apart are drawn on a logarithmic scale."""

    def channel(self, **more: object) -> dict[str, Any]:
        """Return the encoding of the values."""
        # The page's script makes the scale logarithmic where the data spread over more than a decade.
        return {"field": self.field_name, "type": "quantitative", "title": self.title,
                "scale": {"zero": False, "nice": True}, "axis": {"tickCount": 8}, **more}  # fmt: skip


def tooltip(*fields: tuple[str, str]) -> list[dict[str, str]]:
    """Return what is shown on hover: the field and its name for people."""
    return [{"field": name, "title": title, "type": "nominal"} for name, title in fields]


def delegate_points(rows: Sequence[Row], filled_if: str, encoding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return two layers of points by delegate: filled where the expression holds, hollow elsewhere."""
    delegate = {"field": "delegate", "type": "nominal", "title": "delegate", "scale": delegate_scale(rows)}
    return [
        {
            "transform": [{"filter": f"({filled_if}) === {str(is_filled).lower()}"}],
            "mark": {"type": "point", "size": 85, "strokeWidth": 1.8, "filled": is_filled, "opacity": 0.95},
            "encoding": {**encoding, "color": delegate, "shape": delegate},
        }
        for is_filled in (True, False)
    ]


def delegate_scale(rows: Sequence[Row]) -> dict[str, Any]:
    """Give each delegate of a sweep one colour and shape on every chart of it."""
    names = sorted({row["delegate_requested"] for row in rows if row["delegate_requested"]}, key=_cpu_first)
    return {"domain": names}


def _cpu_first(delegate: str) -> tuple[bool, str]:
    return not delegate.startswith("cpu"), delegate


def thinned(rows: Sequence[Row], most: int = MOST_MARKS) -> list[Row]:
    """Return at most so many rows, evenly spread over all."""
    step = -(-len(rows) // most)
    return list(rows[:: step or 1])
