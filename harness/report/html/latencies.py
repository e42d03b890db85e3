"""How the invocations of each cell lie apart, how delegates compare, and what minutes without a pause do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.result_row import ResultRow
from harness.analysis.summary import latency_column
from harness.analysis.sweep_data import SweepData, grouped
from harness.benchmark.invocation import Pass
from harness.report.html.figure import (
    MOST_CELLS,
    ROW_HEIGHT_PX,
    Axis,
    Chart,
    Point,
    by_device,
    cell_point,
    delegate_points,
    delegate_scale,
    milliseconds,
    tooltip,
)
from harness.store.rows import InvocationRow, JsonObject

_LATENCY = Axis("latency", "latency_ms", "latency, ms")
_CELL = {"field": "cell", "type": "nominal", "title": None, "sort": None}


def _color(data: SweepData) -> dict[str, Any]:
    return {"field": "delegate", "type": "nominal", "title": "delegate", "scale": delegate_scale(data.cell_rows)}


def invocation_figure(data: SweepData, identity: str) -> Chart:
    """Return one dot per invocation of the latency pass, in one line per cell, over median and interval."""
    measured = [row for row in data.cell_rows if row.latency_median_us is not None]
    of_cell = grouped(_counted(data), lambda invocation: invocation.cell_key)
    groups = {
        device: [point for row in rows[:MOST_CELLS] for point in _dots(data, row, of_cell)]
        for device, rows in by_device(data, measured).items()
    }
    cut = any(len(rows) > MOST_CELLS for rows in by_device(data, measured).values())
    first = f" Shown are the first {MOST_CELLS} cells of each device, in the order of rank." if cut else ""
    color = _color(data)
    ends = {"x": _LATENCY.channel(field="latency_low_ms"), "x2": {"field": "latency_high_ms"}}
    once: dict[str, Any] = {"transform": [{"filter": "datum.place === 0"}]}
    spec = {
        "width": "container",
        "height": {"step": ROW_HEIGHT_PX},
        "encoding": {"y": _CELL},
        "layer": [
            {**once, "mark": {"type": "bar", "opacity": 0.22, "height": 12}, "encoding": {**ends, "color": color}},
            {
                **once,
                "mark": {"type": "tick", "thickness": 2, "size": 16, "style": "median"},
                "encoding": {"x": _LATENCY.channel(field="median_ms")},
            },
            {
                "mark": {"type": "circle", "size": 34, "opacity": 0.85},
                "encoding": {
                    "x": _LATENCY.channel(),
                    "color": color,
                    "tooltip": tooltip(
                        ("cell", "cell"),
                        ("latency_ms", "this invocation, ms"),
                        ("invocation", "invocation"),
                        ("started_at", "started"),
                        ("hottest_c", "hottest before it, °C"),
                        ("latency", "all of the cell"),
                    ),
                },
            },
        ],
    }
    return Chart(
        identity,
        "Latency by invocation",
        f"Each dot is one process of its own; the tick is their median, the band its 95 % interval.{first}",
        {"latency": spec},
        groups,
        [
            ("cell", "cell"),
            ("invocation", "invocation"),
            ("latency_ms", "latency, ms"),
            ("started_at", "started, UTC"),
            ("hottest_c", "hottest before it, °C"),
        ],
        unavailable="No invocation of the latency pass gave a measurement.",
    )


def _counted(data: SweepData) -> list[InvocationRow]:
    """Return the invocations of the latency pass that count: the last attempts that succeeded."""
    latest = {(row.cell_key, row.invocation_index): row for row in data.invocations if row.purpose == Pass.LATENCY}
    return [row for row in latest.values() if row.failure_class is None]


def _dots(data: SweepData, row: ResultRow, of_cell: Mapping[str, Sequence[InvocationRow]]) -> list[Point]:
    point = cell_point(data, row)
    shared = {name: point[name] for name in ("cell", "delegate", "latency", "latency_low_ms", "latency_high_ms")}
    shared["median_ms"] = point["latency_ms"]
    column = latency_column(row.latency_of)
    return [
        shared
        | {
            "place": place,
            "latency_ms": milliseconds(getattr(invocation, column)),
            "invocation": invocation.invocation_index + 1,
            "started_at": invocation.started_at_utc,
            "hottest_c": hottest_c(invocation.telemetry_before),
        }
        for place, invocation in enumerate(of_cell.get(row.cell_key or "", []))
    ]


def hottest_c(look: JsonObject | None) -> float | None:
    """Return the highest temperature that a look at the device saw."""
    return max(((look or {}).get("temperatures_c") or {}).values(), default=None)


def delegate_figure(data: SweepData, identity: str) -> Chart:
    """Return each variant's latency on every delegate next to each other."""
    measured = [row for row in data.cell_rows if row.latency_median_us is not None]
    groups = {device: _of_variants(data, rows) for device, rows in by_device(data, measured).items()}
    color = _color(data)
    y = {"field": "variant", "type": "nominal", "title": None, "sort": None}
    ends = {"x": _LATENCY.channel(field="latency_low_ms"), "x2": {"field": "latency_high_ms"}}
    spec = {
        "width": "container",
        "height": {"step": ROW_HEIGHT_PX + 6},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.3}, "encoding": {"y": y, "color": color, **ends}},
            *delegate_points(
                data.cell_rows,
                "datum.ranked === 'ranked'",
                {
                    "y": y,
                    "x": _LATENCY.channel(),
                    "tooltip": tooltip(
                        ("cell", "cell"),
                        ("latency", "latency"),
                        ("ran", "ran"),
                        ("invocations", "invocations"),
                        ("verdict", "verdict"),
                    ),
                },
            ),
        ],
    }
    return Chart(
        identity,
        "Delegates",
        "Median latency of each variant on every delegate, with its 95 % interval. Hollow: the row has no rank, such "
        "as one that fell back, and is no figure of that delegate.",
        {"latency": spec},
        groups,
        [
            ("variant", "variant"),
            ("delegate", "delegate asked for"),
            ("ran", "ran"),
            ("latency", "latency"),
            ("verdict", "verdict"),
        ],
        unavailable="Nothing was measured.",
    )


def _of_variants(data: SweepData, rows: Sequence[ResultRow]) -> list[Point]:
    """Return the points of the variants that come first by rank, each with all of its delegates."""
    of_variant = grouped(rows, lambda row: row.variant)
    shown = list(of_variant)[:MOST_CELLS]
    return [cell_point(data, row) for variant in shown for row in of_variant[variant]]


def sustained_figure(data: SweepData, identity: str) -> Chart:
    """Return the curve of each cell that was run for minutes."""
    curves = [row for row in data.cell_rows if len(row.sustained_curve_us or []) > 1]
    groups = {
        device: [point for row in rows[:MOST_CELLS] for point in _windows(data, row)]
        for device, rows in by_device(data, curves).items()
    }
    spec = {
        "width": "container",
        "height": 280,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {
                "field": "window",
                "type": "quantitative",
                "title": "window",
                "axis": {"tickMinStep": 1, "format": "d"},
                "scale": {"zero": False},
            },
            "y": _LATENCY.channel(),
            "color": _color(data),
            "detail": {"field": "cell"},
            "strokeDash": {"field": "variant", "type": "nominal"},
            "tooltip": tooltip(
                ("cell", "cell"),
                ("window", "window"),
                ("latency_ms", "latency, ms"),
                ("change_percent", "against the first window, %"),
            ),
        },
    }
    window_s = (data.record.spec.get("measurement") or {}).get("sustained_window_s")  # type: ignore[attr-defined]
    length = f" of {window_s:g} s" if isinstance(window_s, int | float) else ""
    return Chart(
        identity,
        "Sustained",
        f"Latency of windows{length} in a row without a pause: what a phone gives away as it heats up.",
        {"latency": spec},
        groups,
        [
            ("cell", "cell"),
            ("window", "window"),
            ("latency_ms", "latency, ms"),
            ("change_percent", "against the first window, %"),
        ],
        unavailable="No cell was run for minutes; the option --sustained of harness sweep does that.",
    )


def _windows(data: SweepData, row: ResultRow) -> list[Point]:
    point = cell_point(data, row)
    curve = row.sustained_curve_us or [0.0]
    return [
        {
            "cell": point["cell"],
            "variant": point["variant"],
            "delegate": point["delegate"],
            "window": index + 1,
            "latency_ms": milliseconds(latency_us),
            "change_percent": 100 * (latency_us / curve[0] - 1),
        }
        for index, latency_us in enumerate(curve)
    ]
