"""A sweep as a terminal table: what was asked for, what ran, what it cost, and what may be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rich.console import Group, RenderableType
from rich.text import Text

from harness.analysis.result_row import ResultRow
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section, curve
from harness.text import number, printable


@dataclass(frozen=True)
class Column:
    """One column and what it shows of a row."""

    fitting: FittingColumn
    show: Callable[[ResultRow], str]


def _number(heading: str, worth: int, show: Callable[[ResultRow], str]) -> Column:
    return Column(FittingColumn(heading, worth, is_numeric=True), show)


def _words(heading: str, worth: int, show: Callable[[ResultRow], str]) -> Column:
    return Column(FittingColumn(heading, worth, may_fold=True), show)


def _delegate_achieved(row: ResultRow) -> str:
    if row.delegate_achieved is None:
        return "-"
    achieved = printable(row.delegate_achieved)
    if row.delegated_nodes is None or row.total_nodes is None:
        return achieved
    nodes = f"{achieved} {row.delegated_nodes}/{row.total_nodes}"
    partitions = row.partitions
    return f"{nodes} ({partitions} parts)" if partitions is not None and partitions > 1 else nodes


def _interval(row: ResultRow) -> str:
    if row.latency_low_us is None or row.latency_high_us is None:
        return "-"
    return f"{number(row.latency_low_us / 1000)}..{number(row.latency_high_us / 1000)}"


def _init(row: ResultRow) -> str:
    if row.init_cold_us is None or row.init_warm_us is None:
        return "-" if row.init_median_us is None else number(row.init_median_us / 1000)
    return f"{number(row.init_cold_us / 1000)}/{number(row.init_warm_us / 1000)}"


def _memory(row: ResultRow) -> str:
    return number(row.memory_mb)


def _change(row: ResultRow) -> str:
    drop = row.accuracy_drop_points
    return "-" if drop is None else f"{round(-drop, 1) + 0.0:+.1f}"  # + 0.0 makes a plain zero of minus zero


def _verdict(row: ResultRow) -> str:
    if row.rank is None:
        return printable(row.verdict if row.failure_class is None else row.failure_class)
    return f"{row.rank}{'=' if row.tied else ''}"


def _milliseconds(column: str) -> Callable[[ResultRow], str]:
    return lambda row: "-" if getattr(row, column) is None else number(getattr(row, column) / 1000)


COLUMNS: tuple[Column, ...] = (
    _words("variant", 12, lambda row: printable(row.variant)),
    _words("delegate", 6, lambda row: printable(row.delegate_requested)),
    _words("ran", 4, _delegate_achieved),
    _number("latency\nms", 10, _milliseconds("latency_median_us")),
    _number("95 %\ninterval", 9, _interval),
    _number("init ms\ncold/warm", 1, _init),
    _number("memory\nMB", 8, _memory),
    _number("size\nkB", 3, lambda row: "-" if row.size_bytes is None else number(row.size_bytes / 1000)),
    _number("zip\nkB", 2, lambda row: "-" if row.gzip_size_bytes is None else number(row.gzip_size_bytes / 1000)),
    _number("top-1\n%", 7, lambda row: "-" if row.top1 is None else f"{100 * row.top1:.1f}"),
    _number("change\npoints", 5, _change),
    _words("rank", 11, _verdict),
)
"""Each with its worth: in a narrow terminal, rank, latency, its interval, memory and accuracy stay longest."""
THREADS = _number("threads", 6, lambda row: str(row.threads))
"""Shown where rows differ in it."""


def sweep_table(rows: Sequence[ResultRow]) -> RenderableType:
    """Return one section per device, then what failed by class, then notes. `rows` is the summary.

    It takes as many columns as the terminal has room for when it is drawn, and says which it left out.
    """
    cells = [row for row in rows if row.variant is not None and row.serial is not None]
    parts: list[RenderableType] = [_device_tables(cells)] if cells else []
    parts += _curves(cells)
    parts += _failures(rows)
    parts += _notes(cells)
    return Group(*parts)


def _device_tables(cells: list[ResultRow]) -> FittedTable:
    columns = list(COLUMNS)
    if len({row.threads for row in cells}) > 1:
        columns.insert(3, THREADS)
    devices: dict[str | None, list[ResultRow]] = {}
    for row in cells:
        devices.setdefault(row.serial, []).append(row)
    sections = [
        Section(
            [FittingRow([column.show(row) for column in columns], _style(row)) for row in rows], _device_title(rows[0])
        )
        for rows in devices.values()
    ]
    return FittedTable([column.fitting for column in columns], sections)


def _style(row: ResultRow) -> str:
    return "green" if row.fastest is True else "" if row.rank is not None else "dim"


def _curves(rows: Sequence[ResultRow]) -> list[RenderableType]:
    """Return what became of each cell that was run for minutes: its first window, its last, and a plot of all."""
    texts: list[RenderableType] = []
    for row in rows:
        values = row.sustained_curve_us
        if values is None or len(values) < 2:  # noqa: PLR2004 - a curve has two ends
            continue
        first, last = number(values[0] / 1000), number(values[-1] / 1000)
        change = f"{100 * (values[-1] / values[0] - 1):+.1f} %"
        texts.append(Text(f"sustained: {_place(row)}: {first} to {last} ms ({change}) in {len(values)} windows"))
        texts.append(Text(f"  {curve(values)}"))
    return texts


def _device_title(row: ResultRow) -> str:
    labels = ", ".join(map(printable, row.labels))
    title = printable(row.device)
    serial = printable(row.serial)
    return f"{title} ({serial})" + (f": {labels}" if labels else "")


def _failures(rows: Sequence[ResultRow]) -> list[RenderableType]:
    """Return failures grouped by class and sentence, each with what to do."""
    groups: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in rows:
        if row.failure_class is not None:
            key = (row.failure_class, row.failure_message or "", row.failure_advice or "")
            groups.setdefault(key, []).append(row)
    texts: list[RenderableType] = []
    for (failure_class, message, advice), failed in groups.items():
        places = ", ".join(dict.fromkeys(map(_place, failed)))
        texts.append(Text(f"\n{failure_class}: {printable(message)}", style="bold"))
        texts.append(Text(f"  where: {places}"))
        if advice:
            texts.append(Text(f"  what to do: {advice}"))
    return texts


def _place(row: ResultRow) -> str:
    parts = [row.variant, row.delegate_requested, row.device or row.serial]
    return " ".join(printable(part) for part in parts if part is not None)


def _cold(row: ResultRow) -> str:
    return (
        f"not warmed up: {_place(row)} still changed its speed after {row.warmup_runs} runs; raise warmup_max_s, or "
        "see whether something else runs on the device."
    )


def _set_aside(row: ResultRow) -> str:
    return f"set aside: {_place(row)} was measured again under other conditions: {row.set_aside}"


def _sittings(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Say which rows of one device have a rank among others that were measured at another time."""
    devices: dict[str | None, dict[str, list[ResultRow]]] = {}
    for row in rows:
        if row.rank is not None and row.sittings is not None:
            devices.setdefault(row.serial, {}).setdefault(row.sittings, []).append(row)
    for groups in devices.values():
        sets = [set(sittings.split(", ")) for sittings in groups]
        if all(one & other for one, other in combinations(sets, 2)):
            continue
        told = "; ".join(f"sitting {sittings}: {', '.join(map(_name, found))}" for sittings, found in groups.items())
        device = printable(next(iter(groups.values()))[0].device)
        yield f"not measured in turns: {device}: {told}. Ranks between sessions also hold what changed in between."


def _name(row: ResultRow) -> str:
    return f"{printable(row.variant)} {printable(row.delegate_requested)}"


def _notes(rows: Sequence[ResultRow]) -> list[RenderableType]:
    notes = dict.fromkeys(row.accuracy_note for row in rows if row.accuracy_note is not None)
    notes |= dict.fromkeys(_set_aside(row) for row in rows if row.set_aside is not None)
    notes |= dict.fromkeys(_sittings(rows))
    notes |= dict.fromkeys(_cold(row) for row in rows if row.warmup_converged is False)
    told = [Text(f"note: {printable(note)}", style="dim") for note in notes if note]
    return [Text(""), *told] if told else []
