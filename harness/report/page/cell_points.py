"""Cells as points of charts: numbers in the units that people read, and text that says what stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.cell_comparison import footprint_mb
from harness.analysis.sweep_data import Row, SweepData
from harness.analysis.verdict import Verdict
from harness.report.text import number, printable

MOST_CELLS = 40
"""Cells of one device that a chart with a line a cell shows; the table holds all."""


def milliseconds(latency_us: float | None) -> float | None:
    """Return microseconds as milliseconds."""
    return None if latency_us is None else latency_us / 1000


def cell_point(data: SweepData, row: Row) -> dict[str, Any]:
    """Return one cell with all measures."""
    top1 = row["top1"]
    return {
        "cell": printable(data.name_of(row)),
        "variant": printable(row["variant"]),
        "delegate": printable(row["delegate_requested"]),
        "ran": ran(row),
        "latency_ms": milliseconds(row["latency_median_us"]),
        "latency_low_ms": milliseconds(row["latency_low_us"]),
        "latency_high_ms": milliseconds(row["latency_high_us"]),
        "latency": interval_text(row),
        "invocations": row["invocations_ok"],
        "size_kb": None if row["size_bytes"] is None else row["size_bytes"] / 1000,
        "memory_mb": footprint_mb(row),
        "top1_percent": None if top1 is None else 100 * top1,
        "top1_low_percent": None if top1 is None else 100 * row["top1_low"],
        "top1_high_percent": None if top1 is None else 100 * row["top1_high"],
        "ranked": "ranked" if row["verdict"] == Verdict.RANKED else "not ranked",
        "verdict": verdict_text(row),
    }


def ran(row: Row) -> str:
    """Say what ran: the delegate, and how many of the nodes it took."""
    if row["delegate_achieved"] is None:
        return "not told"
    told = row["delegated_nodes"] is not None and row["total_nodes"] is not None
    nodes = f" {row['delegated_nodes']}/{row['total_nodes']}" if told else ""
    return printable(f"{row['delegate_achieved']}{nodes}")


def interval_text(row: Row) -> str:
    """Return median and interval as `0.0499 ms (0.0483 to 0.0806)`."""
    if row["latency_median_us"] is None:
        return "not measured"
    median = f"{number(row['latency_median_us'] / 1000)} ms"
    if row["latency_low_us"] is None:
        return median
    return f"{median} ({number(row['latency_low_us'] / 1000)} to {number(row['latency_high_us'] / 1000)})"


def verdict_text(row: Row) -> str:
    """Return the rank, or why there is none."""
    if row["rank"] is None:
        return str(row["failure_class"] or row["verdict"])
    return f"rank {row['rank']}" + (", tied" if row["tied"] else "")


def by_device(data: SweepData, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group cells by device; devices of one title are told apart by their serial."""
    titles = {row["serial"]: printable(row["device"] or row["serial"]) for row in data.cell_rows}
    several = [title for title in titles.values() if list(titles.values()).count(title) > 1]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        title = titles[row["serial"]]
        name = f"{title} ({printable(row['serial'])})" if title in several else title
        groups.setdefault(name, []).append(row)
    return groups
