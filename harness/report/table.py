"""A sweep as a terminal table: what was asked for, what ran, what it cost, and what may be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.curve import curve
from harness.report.text import is_missing, number, printable

Row = dict[str, Any]

WIDE = 114
"""Columns of a terminal from which everything is shown."""
MEDIUM = 98
"""From here on the packed size is shown too."""
NARROW = 90
"""From here on the interval is shown; below, only what the decision needs."""


@dataclass(frozen=True)
class Column:
    """One column: its heading, what it shows of a row, and from which width of the terminal."""

    heading: str
    show: Callable[[Row], str]
    from_width: int = 0
    numeric: bool = True
    no_wrap: bool = True


def _delegate_achieved(row: Row) -> str:
    if is_missing(row["delegate_achieved"]):
        return "-"
    achieved = printable(row["delegate_achieved"])
    if is_missing(row["delegated_nodes"]) or is_missing(row["total_nodes"]):
        return achieved
    nodes = f"{achieved} {row['delegated_nodes']}/{row['total_nodes']}"
    partitions = row["partitions"]
    return f"{nodes} ({partitions} parts)" if not is_missing(partitions) and partitions > 1 else nodes


def _interval(row: Row) -> str:
    if is_missing(row["latency_low_us"]):
        return "-"
    return f"{number(row['latency_low_us'] / 1000)}..{number(row['latency_high_us'] / 1000)}"


def _init(row: Row) -> str:
    pair = (row["init_cold_us"], row["init_warm_us"])
    if any(map(is_missing, pair)):
        return "-" if is_missing(row["init_median_us"]) else number(row["init_median_us"] / 1000)
    return "/".join(number(value / 1000) for value in pair)


def _memory(row: Row) -> str:
    peak = row["memory_peak_mb"]
    return number(row["memory_overall_mb"] if is_missing(peak) else peak)


def _change(row: Row) -> str:
    drop = row["accuracy_drop_points"]
    return "-" if is_missing(drop) else f"{round(-drop, 1) + 0.0:+.1f}"  # + 0.0 makes a plain zero of minus zero


def _verdict(row: Row) -> str:
    if is_missing(row["rank"]):
        return printable(row["verdict"] if is_missing(row["failure_class"]) else row["failure_class"])
    return f"{row['rank']}{'=' if row['tied'] else ''}"


def _milliseconds(column: str) -> Callable[[Row], str]:
    return lambda row: "-" if is_missing(row[column]) else number(row[column] / 1000)


COLUMNS: tuple[Column, ...] = (
    Column("variant", lambda row: printable(row["variant"]), numeric=False, no_wrap=False),
    Column("delegate", lambda row: printable(row["delegate_requested"]), numeric=False),
    Column("ran", _delegate_achieved, numeric=False, no_wrap=False),
    Column("latency\nms", _milliseconds("latency_median_us")),
    Column("95 %\ninterval", _interval, NARROW),
    Column("init ms\ncold/warm", _init, WIDE),
    Column("memory\nMB", _memory, WIDE),
    Column("size\nkB", lambda row: "-" if is_missing(row["size_bytes"]) else number(row["size_bytes"] / 1000)),
    Column(
        "zip\nkB", lambda row: "-" if is_missing(row["size_bytes"]) else number(row["gzip_size_bytes"] / 1000), MEDIUM
    ),
    Column("top-1\n%", lambda row: "-" if is_missing(row["top1"]) else f"{100 * row['top1']:.1f}"),
    Column("change\npoints", _change),
    Column("rank", _verdict, numeric=False, no_wrap=False),
)


def sweep_table(summary: pd.DataFrame, *, width: int) -> RenderableType:
    """Return one section a device, then what failed by class, then notes. A pure function of the summary."""
    rows: list[Row] = [{str(key): value for key, value in row.items()} for row in summary.to_dict("records")]
    cells = [row for row in rows if not is_missing(row["variant"]) and not is_missing(row["serial"])]
    parts: list[RenderableType] = []
    for serial in dict.fromkeys(row["serial"] for row in cells):
        parts.append(_device_table([row for row in cells if row["serial"] == serial], width))
    parts += _curves(cells)
    parts += _failures(rows)
    parts += _notes(cells)
    return Group(*parts)


def _device_table(rows: list[Row], width: int) -> Table:
    columns = [column for column in COLUMNS if width >= column.from_width]
    if len({row["threads"] for row in rows}) > 1:
        columns.insert(3, Column("threads", lambda row: str(row["threads"])))
    table = Table(
        title=_device_title(rows[0]), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.heading, justify=justify, no_wrap=column.no_wrap, overflow="fold")
    for row in rows:
        style = "green" if row["fastest"] is True else ("" if not is_missing(row["rank"]) else "dim")
        table.add_row(*(Text(column.show(row)) for column in columns), style=style)
    return table


def _curves(rows: list[Row]) -> list[RenderableType]:
    """Return what became of each cell that was run for minutes: its first window, its last, and a plot of all."""
    texts: list[RenderableType] = []
    for row in rows:
        values = row["sustained_curve_us"]
        if not isinstance(values, list) or len(values) < 2:  # noqa: PLR2004 - a curve has two ends
            continue
        first, last = number(values[0] / 1000), number(values[-1] / 1000)
        change = f"{100 * row['sustained_change']:+.1f} %"
        texts.append(Text(f"sustained: {_place(row)}: {first} to {last} ms ({change}) in {len(values)} windows"))
        texts.append(Text(f"  {curve(values)}"))
    return texts


def _device_title(row: Row) -> Text:
    labels = ", ".join(map(printable, row["labels"])) if isinstance(row["labels"], list | tuple) else ""
    title = printable(row["device"])
    serial = printable(row["serial"])
    return Text(f"{title} ({serial})" + (f": {labels}" if labels else ""))


def _failures(rows: list[Row]) -> list[RenderableType]:
    """Return failures grouped by class and sentence, each with what to do."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if not is_missing(row["failure_class"]):
            key = (row["failure_class"], row["failure_message"] or "", row["failure_advice"] or "")
            groups.setdefault(key, []).append(row)
    texts: list[RenderableType] = []
    for (failure_class, message, advice), failed in groups.items():
        places = ", ".join(dict.fromkeys(map(_place, failed)))
        texts.append(Text(f"\n{failure_class}: {printable(message)}", style="bold"))
        texts.append(Text(f"  where: {places}"))
        if advice:
            texts.append(Text(f"  what to do: {advice}"))
    return texts


def _place(row: Row) -> str:
    parts = [row["variant"], row["delegate_requested"], row["device"] or row["serial"]]
    return " ".join(printable(part) for part in parts if not is_missing(part))


def _cold(row: Row) -> str:
    return (
        f"not warmed up: {_place(row)} still changed its speed after {row['warmup_runs']} runs; raise warmup_max_s, or "
        "see whether something else runs on the device."
    )


def _notes(rows: list[Row]) -> list[RenderableType]:
    notes = dict.fromkeys(row["accuracy_note"] for row in rows if not is_missing(row["accuracy_note"]))
    notes |= dict.fromkeys(_cold(row) for row in rows if row["warmup_converged"] is False)
    told = [Text(f"note: {printable(note)}", style="dim") for note in notes if note]
    return [Text(""), *told] if told else []
