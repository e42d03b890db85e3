"""Where the time goes: shares of the operators, where a pass measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.page.cell_points import MOST_CELLS, by_device, cell_point
from harness.report.page.figure import ROW_HEIGHT_PX, Figure, tooltip
from harness.report.page.sweep_data import SweepData


@dataclass(frozen=True)
class OperatorShare:
    """The time of one kind of operator in one inference of a cell."""

    cell_key: str
    operator: str
    """The tool's name of the node type, such as `CONV_2D` or a delegate's own node."""
    place: str
    """Where it ran, such as `cpu` or `gpu`."""
    share_us: float


def operator_figure(data: SweepData, identity: str, shares: Sequence[OperatorShare]) -> Figure:
    """Return one stacked bar a cell; one sentence where nothing was profiled."""
    of_cell: dict[str, list[OperatorShare]] = {}
    for share in shares:
        of_cell.setdefault(share.cell_key, []).append(share)
    profiled = [row for row in data.cell_rows if row["cell_key"] in of_cell]
    rows = {
        device: [
            {"cell": cell_point(data, row)["cell"], "operator": share.operator, "place": share.place,
             "time_us": share.share_us,
             "share_percent": 100 * share.share_us / sum(other.share_us for other in of_cell[row["cell_key"]])}
            for row in cells[:MOST_CELLS]
            for share in sorted(of_cell[row["cell_key"]], key=lambda share: -share.share_us)
        ]
        for device, cells in by_device(data, profiled).items()
    }  # fmt: skip
    spec = {
        "width": "container",
        "height": {"step": ROW_HEIGHT_PX},
        "mark": {"type": "bar", "height": 14},
        "encoding": {
            "y": {"field": "cell", "type": "nominal", "title": None, "sort": None},
            "x": {"field": "share_percent", "type": "quantitative", "title": "share of the profiled time, %"},
            "color": {"field": "operator", "type": "nominal", "title": "operator"},
            "order": {"field": "share_percent", "sort": "descending"},
            "tooltip": tooltip(("cell", "cell"), ("operator", "operator"), ("place", "ran on"), ("time_us", "time, µs"),
                               ("share_percent", "share, %")),
        },
    }  # fmt: skip
    return Figure(
        identity,
        "Where the time goes",
        "Time by kind of operator, from a pass of its own: the profiler disturbs what it measures, so read shares, "
        "never latencies.",
        {"share": spec},
        rows,
        [("cell", "cell"), ("operator", "operator"), ("place", "ran on"), ("time_us", "time, µs"),
         ("share_percent", "share, %")],
        unavailable="No pass of this sweep profiled the operators.",
    )  # fmt: skip
