"""Latency, size, memory and accuracy against each other, and which cells no other beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.decision import Decision
from harness.analysis.result_row import ResultRow
from harness.analysis.sweep_data import SweepData
from harness.analysis.verdict import Verdict
from harness.report.html.figure import (
    Axis,
    Chart,
    Point,
    by_device,
    cell_point,
    delegate_points,
    delegate_scale,
    tooltip,
)
from harness.text import printable

_MOST_POINTS = 400
_STAR = "M0,-1L.22,-.31L.95,-.31L.36,.12L.59,.81L0,.38L-.59,.81L-.36,.12L-.95,-.31L-.22,-.31Z"
"""A path for Vega, which has no star of its own."""
_LATENCY = Axis("latency", "latency_ms", "latency, ms", "latency_low_ms", "latency_high_ms")
_ACCURACY = Axis("accuracy", "top1_percent", "top-1 accuracy, %", "top1_low_percent", "top1_high_percent")
_SIZE = Axis("size", "size_kb", "file, kB")
_MEMORY = Axis("memory", "memory_mb", "memory, MB")
_PAIRS = (
    (_LATENCY, _ACCURACY),
    (_SIZE, _ACCURACY),
    (_MEMORY, _ACCURACY),
    (_LATENCY, _SIZE),
    (_LATENCY, _MEMORY),
    (_SIZE, _MEMORY),
)
_EVIDENCE = tooltip(
    ("cell", "cell"),
    ("latency", "latency"),
    ("invocations", "invocations"),
    ("ran", "ran"),
    ("size_kb", "file, kB"),
    ("memory_mb", "memory, MB"),
    ("top1_percent", "top-1, %"),
    ("verdict", "verdict"),
    ("front", "Pareto front"),
)


def trade_off_figure(data: SweepData, identity: str, decisions: Sequence[Decision] = ()) -> Chart:
    """Return the figure: one point per ranked cell; hollow if another cell beats it in every measure."""
    ranked = [row for row in data.cell_rows if row.verdict == Verdict.RANKED]
    shipped = {decision.cell_key for decision in decisions}
    groups = by_device(data, ranked)
    recommended = {
        device: printable(data.name_of(row))
        for device, rows in groups.items()
        for row in rows
        if row.cell_key in shipped
    }
    points = {device: _points(data, rows) for device, rows in groups.items()}
    measured = [
        (x, y)
        for x, y in _PAIRS
        if any(_has(point, x) and _has(point, y) for rows in points.values() for point in rows)
    ]
    return Chart(
        identity,
        "Trade-offs",
        "Each point is a ranked cell. Filled: on the Pareto front, no other cell of this device is at least as good in "
        "latency, size, memory and accuracy and better in one. The line joins those that no other beats on the two "
        "axes shown. Bars are 95 % intervals. The star marks the recommended cell.",
        {f"{x.name} and {y.name}": _spec(x, y, data.cell_rows) for x, y in measured or _PAIRS},
        points,
        [
            ("cell", "cell"),
            ("latency", "latency"),
            ("size_kb", "file, kB"),
            ("memory_mb", "memory, MB"),
            ("top1_percent", "top-1, %"),
            ("front", "Pareto front"),
        ],
        unavailable="No cell was ranked, so there is nothing to weigh.",
        recommended=recommended,
    )


def _has(point: Point, axis: Axis) -> bool:
    return point[axis.field_name] is not None


def _points(data: SweepData, rows: Sequence[ResultRow]) -> Sequence[Point]:
    points: list[dict[str, Any]] = [cell_point(data, row) for row in rows]
    overall = front([_measures(point, points) for point in points])
    for point, is_on_front in zip(points, overall, strict=True):
        point["front"] = "on the front" if is_on_front else "beaten"
    for x, y in _PAIRS:
        pairs = front([(_less_is_better(point, x), _less_is_better(point, y)) for point in points])
        for point, is_on_front in zip(points, pairs, strict=True):
            point[_line_field(x, y)] = is_on_front
    points.sort(key=lambda point: point["front"] == "beaten")  # the front is never cut off
    return points[:_MOST_POINTS]


def _measures(point: Point, points: Sequence[Point]) -> list[float | None]:
    """Return the four measures; one that no cell of the device has is left out."""
    axes = [
        axis
        for axis in (_LATENCY, _SIZE, _MEMORY, _ACCURACY)
        if any(other[axis.field_name] is not None for other in points)
    ]
    return [_less_is_better(point, axis) for axis in axes]


def _less_is_better(point: Point, axis: Axis) -> float | None:
    value: float | None = point[axis.field_name]
    return -value if axis is _ACCURACY and value is not None else value


def _line_field(x: Axis, y: Axis) -> str:
    return f"front_{x.name}_{y.name}"


def _spec(x: Axis, y: Axis, rows: Sequence[ResultRow]) -> dict[str, Any]:
    color = {"field": "delegate", "type": "nominal", "title": "delegate", "scale": delegate_scale(rows)}
    layers: list[dict[str, Any]] = [
        {
            "transform": [{"filter": {"field": _line_field(x, y), "equal": True}}],
            "mark": {"type": "line", "interpolate": "linear", "strokeDash": [4, 3], "opacity": 0.6, "style": "front"},
            "encoding": {"x": x.channel(), "y": y.channel(), "order": {"field": x.field_name}},
        }
    ]
    for axis, channel, other in ((x, "x", y), (y, "y", x)):
        if axis.low:
            ends = {channel: axis.channel(field=axis.low), f"{channel}2": {"field": axis.high}}
            layers.append(
                {
                    "mark": {"type": "rule", "opacity": 0.35},
                    "encoding": {**ends, ("y" if channel == "x" else "x"): other.channel(), "color": color},
                }
            )
    encoding = {"x": x.channel(), "y": y.channel(), "tooltip": _EVIDENCE}
    # The page's script gives each point its label and a place for it, at another height than its neighbours.
    place = {name: {"expr": f"datum.label_{name}"} for name in ("align", "dx", "dy")}
    layers.append(
        {
            "transform": [
                {"filter": f"datum.is_labelled || (datum.is_labelled === null && datum.{_line_field(x, y)})"}
            ],
            "mark": {"type": "text", "style": "name", "limit": 200, **place},
            "encoding": {"x": x.channel(), "y": y.channel(), "text": {"field": "label"}},
        }
    )
    layers += delegate_points(rows, "datum.front === 'on the front'", encoding)
    layers.append(
        {
            "transform": [{"filter": "datum.is_recommended"}],
            "mark": {"type": "point", "shape": _STAR, "size": 420, "style": "star", "strokeWidth": 1.5},
            "encoding": encoding,
        }
    )
    return {"width": "container", "height": 340, "layer": layers}


def front(points: Sequence[Sequence[float | None]]) -> list[bool]:
    """Tell of each point whether it is on the front; every measure is one of which less is better.

    A point is beaten by one that is at least as good in every measure and better in one. Points that lack a measure are
    never on the front and beat nobody. Sorted first, so that a point can only be beaten by one before it.
    """
    complete = sorted(
        (tuple(value for value in point if value is not None), index)
        for index, point in enumerate(points)
        if None not in point
    )
    kept: list[tuple[float, ...]] = []
    on_front = [False] * len(points)
    for values, index in complete:
        beaten = any(all(a <= b for a, b in zip(other, values, strict=True)) and other != values for other in kept)
        if not beaten:
            kept.append(values)
            on_front[index] = True
    return on_front
