"""Where the time goes: shares of the operators, where a pass profiled them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.analysis.summary import operator_shares
from harness.analysis.sweep_data import SweepData, grouped
from harness.report.html.figure import MOST_CELLS, ROW_HEIGHT_PX, Chart, Point, by_device, cell_point, tooltip
from harness.text import printable

_OWN_COLORS = 7


def operator_figure(data: SweepData, identity: str) -> Chart:
    """Return one stacked bar per cell; one sentence where nothing was profiled."""
    by_cell = grouped(data.invocations, lambda invocation: invocation.cell_key)
    of_cell = {key: operator_shares(rows) for key, rows in by_cell.items()}
    profiled = [row for row in data.cell_rows if of_cell.get(row.cell_key or "")]
    groups: dict[str, list[Point]] = {
        device: [
            {
                "cell": cell_point(data, row)["cell"],
                "operator": printable(share.operator),
                "place": str(share.place),
                "nodes": share.nodes,
                "time_us": share.time_us,
                "share_percent": 100 * share.share,
            }
            for row in rows[:MOST_CELLS]
            for share in of_cell[row.cell_key or ""]
        ]
        for device, rows in by_device(data, profiled).items()
    }
    groups = {device: _with_colors(points) for device, points in groups.items()}
    return Chart(
        identity,
        "Where the time goes",
        "Shares of the profiled time of one inference, from a pass of its own: the profiler disturbs what it measures, "
        "so read shares, never latencies.",
        {"operator": _bars("color", "operator"), "place": _bars("place", "place")},
        groups,
        [
            ("cell", "cell"),
            ("operator", "operator"),
            ("place", "place"),
            ("nodes", "nodes"),
            ("time_us", "time, µs"),
            ("share_percent", "share, %"),
        ],
        view_name="Coloured by",
        unavailable="No pass of this sweep profiled the operators.",
    )


def _with_colors(points: Sequence[Point]) -> list[Point]:
    """Give the operators that take most a colour of their own; the rest share one."""
    totals: Counter[str] = Counter()
    for point in points:
        totals[point["operator"]] += point["share_percent"]
    own = {operator for operator, _ in totals.most_common(_OWN_COLORS)}
    return [{**point, "color": point["operator"] if point["operator"] in own else "all others"} for point in points]


def _bars(color: str, title: str) -> dict[str, Any]:
    return {
        "width": "container",
        "height": {"step": ROW_HEIGHT_PX},
        "mark": {"type": "bar", "height": 14, "stroke": "white", "strokeWidth": 0.5},
        "encoding": {
            "y": {"field": "cell", "type": "nominal", "title": None, "sort": None},
            "x": {
                "field": "share_percent",
                "type": "quantitative",
                "title": "share of the profiled time, %",
                "scale": {"domainMax": 100},
            },
            "color": {"field": color, "type": "nominal", "title": title, "legend": {"columns": 3, "labelLimit": 300}},
            "order": {"field": "share_percent", "sort": "descending"},
            "tooltip": tooltip(
                ("cell", "cell"),
                ("operator", "operator"),
                ("place", "place"),
                ("nodes", "nodes"),
                ("time_us", "time, µs"),
                ("share_percent", "share, %"),
            ),
        },
    }
