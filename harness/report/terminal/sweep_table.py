"""A sweep as a terminal table: what was asked for, what ran, what it cost, and what may be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section, curve
from harness.text import is_missing, number, printable

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column and what it shows of a row."""

    fitting: FittingColumn
    show: Callable[[Row], str]


def _number(heading: str, worth: int, show: Callable[[Row], str]) -> Column:
    return Column(FittingColumn(heading, worth, is_numeric=True), show)


def _words(heading: str, worth: int, show: Callable[[Row], str]) -> Column:
    return Column(FittingColumn(heading, worth, may_fold=True), show)


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
    _words("variant", 12, lambda row: printable(row["variant"])),
    _words("delegate", 9, lambda row: printable(row["delegate_requested"])),
    _words("ran", 8, _delegate_achieved),
    _number("latency\nms", 10, _milliseconds("latency_median_us")),
    _number("95 %\ninterval", 4, _interval),
    _number("init ms\ncold/warm", 1, _init),
    _number("memory\nMB", 2, _memory),
    _number("size\nkB", 5, lambda row: "-" if is_missing(row["size_bytes"]) else number(row["size_bytes"] / 1000)),
    _number("zip\nkB", 3, lambda row: "-" if is_missing(row["size_bytes"]) else number(row["gzip_size_bytes"] / 1000)),
    _number("top-1\n%", 6, lambda row: "-" if is_missing(row["top1"]) else f"{100 * row['top1']:.1f}"),
    _number("change\npoints", 7, _change),
    _words("rank", 11, _verdict),
)
"""Each with its worth: where the terminal is narrow, what the decision needs stays longest."""
THREADS = _number("threads", 9, lambda row: str(row["threads"]))
"""Shown where rows differ in it."""


def sweep_table(summary: pd.DataFrame) -> RenderableType:
    """Return one section a device, then what failed by class, then notes. A pure function of the summary.

    It takes as many columns as the terminal has room for when it is drawn, and says which it left out.
    """
    rows: list[Row] = [{str(key): value for key, value in row.items()} for row in summary.to_dict("records")]
    cells = [row for row in rows if not is_missing(row["variant"]) and not is_missing(row["serial"])]
    parts: list[RenderableType] = [_device_tables(cells)] if cells else []
    parts += _curves(cells)
    parts += _failures(rows)
    parts += _notes(cells)
    return Group(*parts)


def _device_tables(cells: list[Row]) -> FittedTable:
    columns = list(COLUMNS)
    if len({row["threads"] for row in cells}) > 1:
        columns.insert(3, THREADS)
    devices: dict[str, list[Row]] = {}
    for row in cells:
        devices.setdefault(row["serial"], []).append(row)
    sections = [
        Section(
            [FittingRow([column.show(row) for column in columns], _style(row)) for row in rows], _device_title(rows[0])
        )
        for rows in devices.values()
    ]
    return FittedTable([column.fitting for column in columns], sections)


def _style(row: Row) -> str:
    return "green" if row["fastest"] is True else "" if not is_missing(row["rank"]) else "dim"


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


def _device_title(row: Row) -> str:
    labels = ", ".join(map(printable, row["labels"])) if isinstance(row["labels"], list | tuple) else ""
    title = printable(row["device"])
    serial = printable(row["serial"])
    return f"{title} ({serial})" + (f": {labels}" if labels else "")


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


def _set_aside(row: Row) -> str:
    return f"set aside: {_place(row)} was measured again under other conditions: {row['set_aside']}"


def _sittings(rows: list[Row]) -> Iterator[str]:
    """Say which rows of one device have a rank among others that were measured at another time."""
    devices: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if not is_missing(row["rank"]) and not is_missing(row["sittings"]):
            devices.setdefault(row["serial"], {}).setdefault(row["sittings"], []).append(row)
    for groups in devices.values():
        sets = [set(sittings.split(", ")) for sittings in groups]
        if all(one & other for one, other in combinations(sets, 2)):
            continue
        told = "; ".join(f"sitting {sittings}: {', '.join(map(_name, found))}" for sittings, found in groups.items())
        device = printable(next(iter(groups.values()))[0]["device"])
        yield f"not measured in turns: {device}: {told}. Ranks between sittings also hold what changed in between."


def _name(row: Row) -> str:
    return f"{printable(row['variant'])} {printable(row['delegate_requested'])}"


def _notes(rows: list[Row]) -> list[RenderableType]:
    notes = dict.fromkeys(row["accuracy_note"] for row in rows if not is_missing(row["accuracy_note"]))
    notes |= dict.fromkeys(_set_aside(row) for row in rows if not is_missing(row["set_aside"]))
    notes |= dict.fromkeys(_sittings(rows))
    notes |= dict.fromkeys(_cold(row) for row in rows if row["warmup_converged"] is False)
    told = [Text(f"note: {printable(note)}", style="dim") for note in notes if note]
    return [Text(""), *told] if told else []
