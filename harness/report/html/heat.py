"""Temperatures and clocks next to the samples, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.result_row import ResultRow
from harness.analysis.summary import latency_column
from harness.analysis.sweep_data import SweepData, grouped
from harness.benchmark.invocation import Pass
from harness.errors import FailureClass
from harness.report.html.figure import Chart, Point, by_device, thinned, tooltip
from harness.report.html.latencies import hottest_c
from harness.store.rows import InvocationRow
from harness.text import printable

_HEIGHT_PX = 110
_EVIDENCE = tooltip(
    ("cell", "cell"),
    ("purpose", "pass"),
    ("at", "started"),
    ("relative_percent", "latency against the median, %"),
    ("hottest_before_c", "hottest before, °C"),
    ("hottest_after_c", "hottest after, °C"),
    ("thermal_status", "thermal status after"),
    ("clock_ghz", "highest clock seen, GHz"),
    ("ceiling_ghz", "lowest limit of a clock, GHz"),
    ("outcome", "outcome"),
)


def heat_figure(data: SweepData, identity: str) -> Chart:
    """Return latency against the cell's median, temperature and clocks, one above the other over one axis of time."""
    of_cell = grouped(data.invocations, lambda invocation: invocation.cell_key)
    groups = {device: thinned(_looks(data, rows, of_cell)) for device, rows in by_device(data, data.cell_rows).items()}
    groups = {device: points for device, points in groups.items() if any(map(_tells_something, points))}
    panels = [
        _panel("relative_percent", "latency\nagainst median, %", "point"),
        _panel("hottest_before_c", "hottest, °C", "line"),
        _panel("clock_ghz", "clock, GHz", "line", limit="ceiling_ghz"),
    ]
    return Chart(
        identity,
        "Heat and clocks",
        "Each invocation in the order of time (UTC): its latency against the median of its cell (crosses: thrown out), "
        "the highest temperature right before it, and the highest clock seen while it ran under the lowest limit that "
        "the kernel set (dashed).",
        {"time": {"vconcat": panels, "resolve": {"scale": {"x": "shared"}}, "spacing": 12}},
        groups,
        [
            ("at", "started, UTC"),
            ("cell", "cell"),
            ("purpose", "pass"),
            ("relative_percent", "latency against the median, %"),
            ("hottest_before_c", "hottest before, °C"),
            ("clock_ghz", "clock, GHz"),
            ("ceiling_ghz", "limit, GHz"),
            ("outcome", "outcome"),
        ],
        unavailable="No device of this sweep tells its temperatures or clocks.",
    )


def _panel(field: str, title: str, mark: str, limit: str = "") -> dict[str, Any]:
    x = {
        "field": "at",
        "type": "temporal",
        "title": None,
        "scale": {"type": "utc"},
        "axis": {"format": "%H:%M:%S", "tickCount": 6, "labelOverlap": True},
    }
    y = {"field": field, "type": "quantitative", "title": title.split("\n"), "scale": {"zero": False}}
    present = [{"filter": {"field": field, "valid": True}}]
    if mark == "point":
        shape = {
            "field": "outcome",
            "type": "nominal",
            "title": "outcome",
            "scale": {"domain": ["counted", "thrown out"], "range": ["circle", "cross"]},
        }
        layers: list[dict[str, Any]] = [
            {"mark": {"type": "rule", "opacity": 0.4}, "encoding": {"y": {"datum": 0}}},
            {
                "transform": present,
                "mark": {"type": "point", "size": 26, "opacity": 0.8},
                "encoding": {"x": x, "y": y, "shape": shape, "tooltip": _EVIDENCE},
            },
        ]
    else:
        layers = [
            {
                "transform": present,
                "mark": {"type": "line", "interpolate": "step-after", "point": {"size": 14}},
                "encoding": {"x": x, "y": y, "tooltip": _EVIDENCE},
            },
        ]
    if limit:
        layers.append(
            {
                "transform": [{"filter": {"field": limit, "valid": True}}],
                "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [4, 3], "opacity": 0.7},
                "encoding": {"x": x, "y": {**y, "field": limit}},
            }
        )
    return {"width": "container", "height": _HEIGHT_PX, "layer": layers}


def _looks(data: SweepData, rows: Sequence[ResultRow], of_cell: Mapping[str, Sequence[InvocationRow]]) -> list[Point]:
    points = [
        _look(printable(data.name_of(row)), row, invocation)
        for row in rows
        for invocation in of_cell.get(row.cell_key or "", [])
    ]
    return sorted(points, key=lambda point: str(point["at"]))


def _look(name: str, row: ResultRow, invocation: InvocationRow) -> dict[str, Any]:
    after, during = invocation.telemetry_after or {}, invocation.telemetry_during or {}
    return {
        "at": invocation.started_at_utc,
        "cell": name,
        "purpose": printable(invocation.purpose).replace("_", " "),
        "relative_percent": _relative(row, invocation),
        "hottest_before_c": hottest_c(invocation.telemetry_before),
        "hottest_after_c": hottest_c(after),
        "thermal_status": after.get("thermal_status"),
        "clock_ghz": _ghz(max((during.get("peak_frequencies_khz") or {}).values(), default=None)),
        "ceiling_ghz": _ghz(min((during.get("lowest_ceilings_khz") or {}).values(), default=None)),
        "outcome": "thrown out" if invocation.failure_class else "counted",
    }


def _relative(row: ResultRow, invocation: InvocationRow) -> float | None:
    """Return how far an invocation lies from its cell's median; one that was throttled holds its latency too."""
    counts = invocation.failure_class in (None, FailureClass.THROTTLED)
    value = getattr(invocation, latency_column(row.latency_of))
    if invocation.purpose != Pass.LATENCY or not counts or value is None or not row.latency_median_us:
        return None
    return float(100 * (value / row.latency_median_us - 1))


def _ghz(khz: float | None) -> float | None:
    return None if khz is None else khz / 1e6


def _tells_something(point: Point) -> bool:
    return any(point[name] is not None for name in ("hottest_before_c", "hottest_after_c", "clock_ghz"))
