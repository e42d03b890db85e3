"""Cells over their nights: one cell night by night with a plot, or all cells at a glance with what moved them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.history.nights import Night
from harness.analysis.history.steps import CellHistory, CommonCause, ConditionChange, HistoryStep, changes
from harness.report.terminal.fitting import curve
from harness.text import number, pluralize, printable, to_json_value

_PLOT_COLUMNS = 30
_SHORT_HASH = 12
_HASH_SIGNS = 64


def history_document(histories: Sequence[CellHistory], causes: Sequence[CommonCause]) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "cells": [_cell_document(history) for history in histories],
        "causes": [
            {"change": group.change and vars(group.change), "steps": [_step_document(step) for step in group.steps]}
            for group in causes
        ],
    }


def _cell_document(history: CellHistory) -> dict[str, Any]:
    cell = history.cell
    return {
        **vars(cell.name),
        "device": cell.device,
        "nights": [_night_document(night) for night in cell.nights],
        "stretches": [[night.sweep_id for night in cell.good[part.start : part.end]] for part in history.stretches],
        "steps": [_step_document(step) for step in history.steps],
    }


def _night_document(night: Night) -> dict[str, Any]:
    latency = night.latency
    return {
        "sweep": night.sweep_id,
        "started_at": night.started_at.isoformat(),
        "cell_key": night.cell_key,
        "verdict": night.verdict.value,
        "failure_class": night.failure_class,
        "counts": night.is_good,
        "invocations": len(night.latencies_us),
        "latency_median_us": latency and latency.value,
        "latency_low_us": latency and latency.low,
        "latency_high_us": latency and latency.high,
        "size_bytes": night.size_bytes,
        "memory_mb": night.memory_mb,
        "top1": night.top1,
        "top1_low": night.top1_low,
        "top1_high": night.top1_high,
        "conditions": to_json_value(dict(night.conditions)),
        "circumstances": to_json_value(dict(night.circumstances)),
    }


def _step_document(step: HistoryStep) -> dict[str, Any]:
    return {
        **vars(step.cell),
        "sweep": step.sweep_id,
        "earliest": step.earliest,
        "latest": step.latest,
        "ratio": step.estimate.value,
        "ratio_low": step.estimate.interval.low,
        "ratio_high": step.estimate.interval.high,
        "alike": step.alike,
        "causes": [vars(change) for change in step.causes],
    }


# ---- one cell, night by night ----


def cell_screen(history: CellHistory, *, width: int) -> RenderableType:
    """Return one cell's nights with a plot, then its steps in words. Nights that are not alike stand apart."""
    cell = history.cell
    title = f"{cell.name.variant} {cell.name.delegate}, {pluralize(cell.name.threads, 'thread')}, on {cell.device}"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, padding=(0, 1, 0, 0))
    columns = [column for column in _COLUMNS if width >= column.from_width]
    for column in columns:
        table.add_column(
            column.heading, justify="right" if column.numeric else "left", no_wrap=column.no_wrap, overflow="fold"
        )
    plots = _plots(cell.good)
    for row in _night_rows(history):
        if row["parted"]:
            table.add_section()
        shown = row | {
            "plot": plots.get(row["sweep"], ""),
            "what": "; ".join(filter(None, [row["step"], row["changed"]])),
        }
        table.add_row(*(Text(shown[column.key]) for column in columns), style=row["style"])
    heading = Text(printable(f"{title} ({cell.name.serial})"), style="bold")
    return Group(heading, table, *_step_lines(history))


@dataclass(frozen=True)
class _NightColumn:
    heading: str
    key: str
    from_width: int = 0
    numeric: bool = True
    no_wrap: bool = True


_COLUMNS = (
    _NightColumn("night (UTC)", "night", numeric=False),
    _NightColumn("ms", "ms"),
    _NightColumn("95 %\ninterval", "interval", 90),
    _NightColumn("", "plot", numeric=False),
    _NightColumn("top-1\n%", "top1", 100),
    _NightColumn("size\nkB", "size", 110),
    _NightColumn("memory\nMB", "memory", 110),
    _NightColumn("what changed", "what", numeric=False, no_wrap=False),
)


def _night_rows(history: CellHistory) -> list[dict[str, Any]]:
    """Return one row per night, as text; what changed is relative to the last good night."""
    starts = {history.cell.good[part.start].sweep_id for part in history.stretches[1:]}
    steps = {step.sweep_id: step for step in history.steps}
    rows, last = [], None
    for night in history.cell.nights:
        step = steps.get(night.sweep_id)
        style = "dim" if not night.is_good else ("red" if step.is_slower else "green") if step else ""
        row = _night_row(night) | {
            "parted": night.sweep_id in starts,
            "step": _percent(step.estimate.value) if step else "",
            "changed": "; ".join(map(_change, changes(last, night))) if last and night.is_good else "",
            "style": style,
        }
        rows.append(row)
        last = night if night.is_good else last
    return rows


def _night_row(night: Night) -> dict[str, Any]:
    latency = night.latency
    interval = "-"
    if latency and latency.low is not None and latency.high is not None:
        interval = f"{number(latency.low / 1000)}..{number(latency.high / 1000)}"
    shown = number(latency.value / 1000) if latency and night.is_good else printable(night.failure_class or "-")
    return {
        "sweep": night.sweep_id,
        "night": f"{night.started_at:%Y-%m-%d %H:%M}",
        "ms": shown if night.is_good or night.failure_class else printable(night.verdict),
        "interval": interval if night.is_good else "-",
        "top1": "-" if night.top1 is None else f"{100 * night.top1:.1f}",
        "size": "-" if night.size_bytes is None else number(night.size_bytes / 1000),
        "memory": number(night.memory_mb),
    }


def _plots(nights: Sequence[Night]) -> dict[str, str]:
    """Return each night's dot between the fastest and the slowest, with its interval behind, by sweep."""
    latencies = {night.sweep_id: night.latency for night in nights}
    values = [end for latency in latencies.values() if latency for end in (latency.low, latency.high, latency.value)]
    known = [value for value in values if value is not None]
    if not known:
        return {}
    low, high = min(known), max(known)

    def place(value: float | None, default: float) -> int:
        value = default if value is None else value
        return 0 if high == low else round((value - low) / (high - low) * (_PLOT_COLUMNS - 1))

    plots = {}
    for sweep_id, latency in latencies.items():
        if latency:
            behind = range(place(latency.low, latency.value), place(latency.high, latency.value) + 1)
            signs = ["─" if column in behind else " " for column in range(_PLOT_COLUMNS)]
            signs[place(latency.value, low)] = "●"
            plots[sweep_id] = "".join(signs)
    return plots


def _step_lines(history: CellHistory) -> list[Text]:
    if not history.cell.good:
        return [Text("No night of this cell holds a latency.")]
    if not history.steps:
        return [Text(f"No step in {pluralize(len(history.cell.good), 'night')}.")]
    nights = {night.sweep_id: night for night in history.cell.good}
    return [Text(printable(line)) for step in history.steps for line in _step_sentences(step, nights)]


def _step_sentences(step: HistoryStep, nights: dict[str, Night]) -> list[str]:
    interval = step.estimate.interval
    direction = "slower" if step.is_slower else "faster"
    days = [f"{nights[sweep].started_at:%Y-%m-%d}" for sweep in (step.sweep_id, step.earliest, step.latest)]
    place = "" if days[1] == days[2] else f", or another night from {days[1]} to {days[2]}"
    found = (
        f"{direction} from {days[0]}{place}: {_percent(step.estimate.value)} "
        f"(99 % interval {_percent(interval.low)}..{_percent(interval.high)})."
    )
    if not step.alike:
        parted = ", ".join(dict.fromkeys(change.what for change in step.causes if change.parts_nights))
        found += f" Not like with like: {parted} changed there, so it need not be the variant."
    return [found, f"  {_causes(step)}"]


def _causes(step: HistoryStep) -> str:
    told = "; ".join(map(_change, step.causes))
    return f"what changed there: {told}" if told else "Nothing that is stored changed there."


def _change(change: ConditionChange) -> str:
    return printable(f"{change.what}: {_short(change.before)} -> {_short(change.after)}")


def _short(text: str) -> str:
    return text[:_SHORT_HASH] if len(text) == _HASH_SIGNS and text.isalnum() else text


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


# ---- all cells at a glance ----


def overview_screen(histories: Sequence[CellHistory], causes: Sequence[CommonCause]) -> RenderableType:
    """Return one section per device with a row per cell, then the steps by what they share."""
    parts: list[RenderableType] = []
    for serial in dict.fromkeys(history.cell.name.serial for history in histories):
        parts.append(_device_table([history for history in histories if history.cell.name.serial == serial]))
    return Group(*parts, *_cause_lines(causes))


def _device_table(histories: Sequence[CellHistory]) -> Table:
    title = Text(f"{printable(histories[0].cell.device)} ({printable(histories[0].cell.name.serial)})")
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1, 0, 0),
    )
    table.add_column("variant")
    table.add_column("delegate")
    for heading in ("threads", "nights", "last\nms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("last step")
    for history in histories:
        row = _overview_row(history)
        table.add_row(
            *map(Text, [*row.values()][2:6]), Text(row["last ms"]), Text(_curve(history)), Text(row["last step"])
        )
    return table


def _overview_row(history: CellHistory) -> dict[str, str]:
    cell, last = history.cell, history.steps[-1] if history.steps else None
    day = {night.sweep_id: f"{night.started_at:%Y-%m-%d}" for night in cell.good}
    step = f"{_percent(last.estimate.value)} on {day[last.sweep_id]}" if last else "none"
    return {
        "device": printable(cell.device),
        "serial": printable(cell.name.serial),
        "variant": printable(cell.name.variant),
        "delegate": printable(cell.name.delegate),
        "threads": str(cell.name.threads),
        "nights": str(len(cell.good)),
        "last ms": number(cell.good[-1].middle_us / 1000) if cell.good else "-",
        "last step": step + ("" if last is None or last.alike else ", not like with like"),
    }


def _curve(history: CellHistory) -> str:
    """Draw the nights; a bar parts those that are not alike."""
    values = [night.middle_us for night in history.cell.good]
    if len(history.stretches) == 1:
        return curve(values, width=_PLOT_COLUMNS)
    drawn = curve(values, width=len(values))  # one scale for all stretches
    return "|".join(drawn[part.start : part.end] for part in history.stretches)[-_PLOT_COLUMNS:]


def _cause_lines(causes: Sequence[CommonCause]) -> list[Text]:
    lines = []
    for group in causes:
        cells = pluralize(len(group.steps), "step")
        if group.change:
            apart = " (nights before and after are not alike)" if group.change.parts_nights else ""
            lines.append(Text(f"{cells} where {_change(group.change)}{apart}", style="bold"))
        else:
            lines.append(Text(f"{cells} where nothing that is stored changed", style="bold"))
        for step in group.steps:
            name = step.cell
            place = f"{name.variant} {name.delegate} t{name.threads} on {name.serial}"
            lines.append(Text(printable(f"  {_percent(step.estimate.value)} {place}, sweep {step.sweep_id}")))
    return lines


# ---- plain tables ----


def plain_nights(history: CellHistory) -> list[dict[str, str]]:
    """Return one cell's nights as text, for a pull request."""
    shown = {
        "night": "night (UTC)",
        "sweep": "sweep",
        "ms": "ms",
        "interval": "95 % interval",
        "top1": "top-1 %",
        "size": "size kB",
        "memory": "memory MB",
        "step": "step",
        "changed": "what changed",
    }
    return [{heading: row[name] for name, heading in shown.items()} for row in _night_rows(history)]


def plain_overview(histories: Sequence[CellHistory]) -> list[dict[str, str]]:
    """Return one row per cell as text."""
    return [_overview_row(history) for history in histories]
