"""A figure of the page: Vega-Lite views over plain data, with the same data as a table next to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.result_row import ResultRow
from harness.analysis.sweep_data import SweepData
from harness.analysis.verdict import Verdict
from harness.text import number, printable

Point = Mapping[str, Any]
"""The data of one mark, by field."""
Spec = Mapping[str, Any]
"""A Vega-Lite specification without its data. https://vega.github.io/vega-lite/docs/"""

ROW_HEIGHT_PX = 22
MOST_MARKS = 4000
"""Marks of one chart that a browser still draws in well under a second; more are thinned out, and that is said."""


@dataclass(frozen=True)
class Chart:
    """One chart, for a group (such as a device) and a view (such as a pair of axes) that the reader chooses."""

    identity: str
    title: str
    caption: str
    """What it shows and how it is read."""
    views: Mapping[str, Spec]
    data: Mapping[str, Sequence[Point]]
    """By group."""
    columns: Sequence[tuple[str, str]]
    """Field and heading of each column of the table."""
    group_name: str = "Device"
    view_name: str = "Axes"
    unavailable: str = ""
    """One sentence that stands in place of the chart if there is nothing to draw."""
    recommended: Mapping[str, str] = field(default_factory=dict)
    """The cell that the decision recommends, by group; its point has a star."""

    @property
    def is_empty(self) -> bool:
        """Return True if there is nothing to draw."""
        return not any(self.data.values())

    def document(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        return {
            "title": self.title,
            "views": self.views,
            "data": {name: rows for name, rows in self.data.items() if rows},
            "columns": self.columns,
            "recommended": self.recommended,
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
    """True if values that lie far apart are drawn on a logarithmic scale."""

    def channel(self, **more: object) -> dict[str, Any]:
        """Return the encoding of the values."""
        # The page's script makes the scale logarithmic where the data spread over more than a decade.
        return {
            "field": self.field_name,
            "type": "quantitative",
            "title": self.title,
            "scale": {"zero": False, "nice": True},
            "axis": {"tickCount": 8},
            **more,
        }


def tooltip(*fields: tuple[str, str]) -> list[dict[str, str]]:
    """Return what is shown on hover: the field and its name for people."""
    return [{"field": name, "title": title, "type": "nominal"} for name, title in fields]


def delegate_points(rows: Sequence[ResultRow], filled_if: str, encoding: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def delegate_scale(rows: Sequence[ResultRow]) -> dict[str, Any]:
    """Give each delegate of a sweep one colour and shape on every chart of it."""
    names = sorted({row.delegate_requested for row in rows if row.delegate_requested}, key=_cpu_first)
    return {"domain": names}


def _cpu_first(delegate: str) -> tuple[bool, str]:
    return not delegate.startswith("cpu"), delegate


def thinned(rows: Sequence[Point], most: int = MOST_MARKS) -> list[Point]:
    """Return at most this many rows, evenly spread over all."""
    step = -(-len(rows) // most)
    return list(rows[:: step or 1])


MOST_CELLS = 40
"""Cells of one device that a chart with a line per cell shows; the table holds all."""


def milliseconds(latency_us: float | None) -> float | None:
    """Return microseconds as milliseconds."""
    return None if latency_us is None else latency_us / 1000


def cell_point(data: SweepData, row: ResultRow) -> dict[str, Any]:
    """Return one cell with all measures."""
    return {
        "cell": printable(data.name_of(row)),
        "variant": printable(row.variant),
        "delegate": printable(row.delegate_requested),
        "ran": ran(row),
        "latency_ms": milliseconds(row.latency_median_us),
        "latency_low_ms": milliseconds(row.latency_low_us),
        "latency_high_ms": milliseconds(row.latency_high_us),
        "latency": interval_text(row),
        "invocations": row.invocations_ok,
        "size_kb": None if row.size_bytes is None else row.size_bytes / 1000,
        "memory_mb": row.memory_mb,
        "top1_percent": _percent(row.top1),
        "top1_low_percent": _percent(row.top1_low),
        "top1_high_percent": _percent(row.top1_high),
        "ranked": "ranked" if row.verdict == Verdict.RANKED else "not ranked",
        "verdict": verdict_text(row),
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def ran(row: ResultRow) -> str:
    """Say what ran: the delegate, and how many of the nodes it took."""
    if row.delegate_achieved is None:
        return "unknown"
    told = row.delegated_nodes is not None and row.total_nodes is not None
    nodes = f" {row.delegated_nodes}/{row.total_nodes}" if told else ""
    return printable(f"{row.delegate_achieved}{nodes}")


def interval_text(row: ResultRow) -> str:
    """Return median and interval as `0.0499 ms (0.0483 to 0.0806)`."""
    if row.latency_median_us is None:
        return "not measured"
    median = f"{number(row.latency_median_us / 1000)} ms"
    if row.latency_low_us is None or row.latency_high_us is None:
        return median
    return f"{median} ({number(row.latency_low_us / 1000)} to {number(row.latency_high_us / 1000)})"


def verdict_text(row: ResultRow) -> str:
    """Return the rank, or why there is none."""
    if row.rank is None:
        return str(row.failure_class or row.verdict)
    return f"rank {row.rank}" + (", tied" if row.tied else "")


def by_device(data: SweepData, rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Group cells by device; devices of one title are distinguished by their serial."""
    titles = {row.serial: printable(row.device or row.serial) for row in data.cell_rows}
    several = [title for title in titles.values() if list(titles.values()).count(title) > 1]
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        title = titles[row.serial]
        name = f"{title} ({printable(row.serial)})" if title in several else title
        groups.setdefault(name, []).append(row)
    return groups
