"""One cell over several sweeps: its median with its interval by date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.history.nights import read_nights
from harness.analysis.history.steps import find_shifts
from harness.analysis.result_row import ResultRow
from harness.analysis.sweep_data import SweepData
from harness.report.html.figure import Axis, Chart, Point, cell_point, delegate_scale, tooltip
from harness.store.reader import StoreReader
from harness.text import printable

MOST_GROUPS = 200
_LATENCY = Axis("latency", "latency_ms", "latency, ms")


@dataclass(frozen=True)
class ChangePoint:
    """From this sweep on, a cell's latency stays at another level."""

    serial: str
    variant: str
    delegate: str
    threads: int
    sweep_id: str
    ratio: float
    """New level over old: 1.05 is 5 % slower."""
    cause: str = ""
    """What is known to have changed there, such as `os, variant int8`."""


def read_changes(store: StoreReader) -> list[ChangePoint]:
    """Return the steps that `harness history` finds in the cells of a store."""
    return [
        ChangePoint(
            step.cell.serial,
            step.cell.variant,
            step.cell.delegate,
            step.cell.threads,
            step.sweep_id,
            step.estimate.value,
            ", ".join(printable(change.what) for change in step.causes),
        )
        for nights in read_nights(store)
        for step in find_shifts(nights).steps
    ]


def history_figure(sweeps: Sequence[SweepData], changes: Sequence[ChangePoint], identity: str) -> Chart:
    """Return the figure, one group per device and variant, one line per delegate and number of threads.

    A line breaks where the cell's key changes: tool, cores, mode or the variant's file are not what they were.
    """
    marks: dict[tuple[object, ...], ChangePoint] = {
        (c.sweep_id, c.serial, c.variant, c.delegate, c.threads): c for c in changes
    }
    groups: dict[str, list[Point]] = {}
    for data in sorted(sweeps, key=lambda data: (data.record.started_at, data.record.id)):
        for row in data.cell_rows:
            if row.latency_median_us is not None:
                name = f"{printable(row.device)} ({printable(row.serial)}), {printable(row.variant)}"
                if name in groups or len(groups) < MOST_GROUPS:
                    groups.setdefault(name, []).append(_night(data, row, marks))
    color = {
        "field": "delegate",
        "type": "nominal",
        "title": "delegate",
        "scale": delegate_scale([row for data in sweeps for row in data.cell_rows]),
    }
    x = {"field": "at", "type": "temporal", "title": "start of the sweep, UTC", "scale": {"type": "utc"}}
    spec = {
        "width": "container",
        "height": 280,
        "encoding": {"x": x, "color": color},
        "layer": [
            {
                "mark": {"type": "line", "opacity": 0.8},
                "encoding": {"y": _LATENCY.channel(), "detail": {"field": "key"}},
            },
            {
                "mark": {"type": "rule", "opacity": 0.4},
                "encoding": {"y": _LATENCY.channel(field="latency_low_ms"), "y2": {"field": "latency_high_ms"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45},
                "encoding": {
                    "y": _LATENCY.channel(),
                    "tooltip": tooltip(
                        ("cell", "cell"),
                        ("sweep", "sweep"),
                        ("latency", "latency"),
                        ("invocations", "invocations"),
                        ("change", "change"),
                    ),
                },
            },
            {
                "transform": [{"filter": "datum.change !== ''"}],
                "mark": {"type": "text", "dy": -14, "fontWeight": "bold", "style": "change"},
                "encoding": {"y": _LATENCY.channel(), "text": {"field": "mark"}},
            },
        ],
    }
    return Chart(
        identity,
        "History",
        "Median of each sweep with its 95 % interval. A line breaks where tool, cores, mode or the variant's file "
        "changed, since only like is compared with like. Intervals say nothing of what differs from sweep to sweep: "
        "that is the noise floor between sweeps.",
        {"time": spec},
        groups,
        [
            ("at", "started, UTC"),
            ("cell", "cell"),
            ("latency", "latency"),
            ("invocations", "invocations"),
            ("change", "change"),
            ("sweep", "sweep"),
        ],
        group_name="Cell",
        unavailable="No cell was measured.",
    )


def _night(data: SweepData, row: ResultRow, marks: Mapping[tuple[object, ...], ChangePoint]) -> Point:
    place = (data.record.id, row.serial, row.variant, row.delegate_requested, row.threads)
    change = marks.get(place)
    return cell_point(data, row) | {
        "key": row.cell_key,
        "at": data.record.started_at.isoformat(),
        "sweep": data.record.id,
        "change": ""
        if change is None
        else " with another ".join(filter(None, [_change(change), printable(change.cause)])),
        "mark": "" if change is None else _change(change),
    }


def _change(change: ChangePoint) -> str:
    return f"{100 * (change.ratio - 1):+.1f} %".replace("-", "\N{MINUS SIGN}")
