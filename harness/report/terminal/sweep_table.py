"""A sweep as a terminal table: what was asked for, what ran, what it cost, and what may be believed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from rich.console import Group, RenderableType
from rich.text import Text

from harness.analysis.decision import Decision
from harness.analysis.result_row import ResultRow
from harness.analysis.shipping.choice import ShipLimits
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section, curve
from harness.text import number, pluralize, printable, words


@dataclass(frozen=True)
class Column:
    """One column and what it shows of a row."""

    fitting: FittingColumn
    show: Callable[[ResultRow], str]


def _number(heading: str, worth: int, show: Callable[[ResultRow], str]) -> Column:
    return Column(FittingColumn(heading, worth, is_numeric=True), show)


def _words(heading: str, worth: int, show: Callable[[ResultRow], str]) -> Column:
    return Column(FittingColumn(heading, worth, may_fold=True), show)


def _name(heading: str, worth: int, show: Callable[[ResultRow], str], *, is_numeric: bool = False) -> Column:
    return Column(FittingColumn(heading, worth, is_numeric, may_fold=not is_numeric, is_name=True), show)


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


def _top1(row: ResultRow) -> str:
    return "-" if row.top1 is None else f"{100 * row.top1:.{row.accuracy_decimals}f}"


def _change(row: ResultRow) -> str:
    change = row.accuracy_change_points
    return "-" if change is None else f"{change:+.{row.accuracy_decimals}f}"


def _sustained(row: ResultRow) -> str:
    return "-" if row.sustained_change is None else f"{100 * row.sustained_change:+.1f}"


def _verdict(row: ResultRow) -> str:
    if row.rank is None:
        return printable(words(row.verdict if row.failure_class is None else row.failure_class))
    return f"{row.rank}{'=' if row.tied else ''}"


def _milliseconds(column: str) -> Callable[[ResultRow], str]:
    return lambda row: "-" if getattr(row, column) is None else number(getattr(row, column) / 1000)


COLUMNS: tuple[Column, ...] = (
    _name("variant", 12, lambda row: printable(row.variant)),
    _name("delegate", 11, lambda row: printable(row.delegate_requested)),
    _words("ran", 4, _delegate_achieved),
    _number("latency\nms", 9, _milliseconds("latency_median_us")),
    _number("95 %\ninterval", 8, _interval),
    _number("init ms\ncold/warm", 1, _init),
    _number("memory\nMB", 7, _memory),
    _number("size\nkB", 3, lambda row: "-" if row.size_bytes is None else number(row.size_bytes / 1000)),
    _number("zip\nkB", 2, lambda row: "-" if row.gzip_size_bytes is None else number(row.gzip_size_bytes / 1000)),
    _number("top-1\n%", 6, _top1),
    _number("change\npoints", 5, _change),
    _words("rank", 10, _verdict),
)
"""Each with its worth: in a narrow terminal, rank, latency, its interval, memory and accuracy stay longest."""
THREADS = _name("threads", 11, lambda row: str(row.threads), is_numeric=True)
"""Shown if rows differ in it."""
SUSTAINED = _number("sustained\n%", 3, _sustained)
"""Shown if a cell was run for minutes: the last window against the first."""
STAR = "\N{BLACK STAR}"
"""Marks the row that the decision recommends."""


def sweep_table(rows: Sequence[ResultRow], decisions: Sequence[Decision] = (), details: str = "") -> RenderableType:
    """Return one section per device, the decisions, what failed by class, then notes. `rows` is the summary.

    It takes as many columns as the terminal has room for when it is drawn, and says which it left out.
    """
    cells = [row for row in rows if row.variant is not None and row.serial is not None]
    recommended = {decision.cell_key for decision in decisions if decision.cell_key}
    parts: list[RenderableType] = [_device_tables(cells, recommended)] if cells else []
    parts += _decisions(decisions, details) if len(cells) > 1 else []
    parts += _curves(cells)
    parts += _failures(rows)
    parts += _notes(cells)
    return Group(*parts)


def _decisions(decisions: Sequence[Decision], details: str) -> list[RenderableType]:
    """Say in one line per device what to ship and why."""
    several = len(decisions) > 1
    lines = [decision.headline if several else decision.answer for decision in decisions]
    lines = [line[:1].upper() + line[1:] for line in lines]
    return [Text(line, style="bold") for line in [*lines[:-1], f"{lines[-1]} {details}".rstrip()]] if lines else []


def details_of(limits: ShipLimits, sweep_id: str = "") -> str:
    """Say which command shows the evidence behind a decision."""
    return f"Details: {' '.join(filter(None, ['harness report', sweep_id, limits.as_options()]))}"


def _device_tables(cells: list[ResultRow], recommended: Container[str | None]) -> FittedTable:
    columns = list(COLUMNS)
    if len({row.threads for row in cells}) > 1:
        columns.insert(2, THREADS)
    if any(row.sustained_change is not None for row in cells):
        columns.insert(-4, SUSTAINED)
    devices: dict[str | None, list[ResultRow]] = {}
    for row in cells:
        devices.setdefault(row.serial, []).append(row)
    sections = [
        Section(
            [_fitting_row(columns, row, is_recommended=row.cell_key in recommended) for row in rows],
            _device_title(rows[0]),
        )
        for rows in devices.values()
    ]
    return FittedTable([column.fitting for column in columns], sections)


def _fitting_row(columns: Sequence[Column], row: ResultRow, *, is_recommended: bool) -> FittingRow:
    texts = [column.show(row) for column in columns]
    style = "green" if row.fastest is True else "" if row.rank is not None else "dim"
    return FittingRow([*texts[:-1], f"{texts[-1]} {STAR}"], "bold") if is_recommended else FittingRow(texts, style)


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


def _cold(rows: Sequence[ResultRow]) -> Iterator[str]:
    has_several = len({row.threads for row in rows}) > 1
    places = [
        f"{_place(row)} {pluralize(row.threads or 0, 'thread')}" if has_several else _place(row)
        for row in rows
        if row.warmup_converged is False
    ]
    if places:
        yield (
            f"not warmed up: {', '.join(places)} still changed speed after the longest warm-up. Raise warmup_max_s "
            "under [measurement] in the sweep's file, or see whether something else runs on the device."
        )


def _set_aside(row: ResultRow) -> str:
    return f"superseded: {_place(row)} was measured again under other conditions: {row.set_aside}"


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
        parts = [f"session {sittings}: {', '.join(map(_cell, found))}" for sittings, found in groups.items()]
        device = printable(next(iter(groups.values()))[0].device)
        yield (
            f"not measured in turns: {device}: {'; '.join(parts)}. Ranks between sessions also hold what changed in "
            "between."
        )


def _cell(row: ResultRow) -> str:
    return f"{printable(row.variant)} {printable(row.delegate_requested)}"


def _notes(rows: Sequence[ResultRow]) -> list[RenderableType]:
    notes = dict.fromkeys(row.accuracy_note for row in rows if row.accuracy_note is not None)
    notes |= dict.fromkeys(f"{row.variant}: {row.fidelity_note}" for row in rows if row.fidelity_note is not None)
    notes |= dict.fromkeys(_set_aside(row) for row in rows if row.set_aside is not None)
    notes |= dict.fromkeys(_sittings(rows))
    notes |= dict.fromkeys(_cold(rows))
    lines = [Text(f"note: {printable(note)}", style="dim") for note in notes if note]
    return [Text(""), *lines] if lines else []
