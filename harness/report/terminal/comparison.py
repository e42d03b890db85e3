"""Findings as a table: what differs, by how much, how sure that is, and what a person must look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.analysis.cell_comparison import ComparedCells, Regression
from harness.analysis.comparison import FindingVerdict
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section
from harness.text import number, printable

_STYLES = {
    FindingVerdict.SLOWER: "red",
    FindingVerdict.FASTER: "green",
    FindingVerdict.REFUSED: "yellow",
    FindingVerdict.INCONCLUSIVE: "dim",
}


def finding_rows(compared: Sequence[ComparedCells]) -> list[dict[str, Any]]:
    """Return the findings as JSON values, one row a pair of cells, in the same order."""
    return [_row(cells) for cells in compared]


def _row(cells: ComparedCells) -> dict[str, Any]:
    finding, estimate = cells.finding, cells.finding.estimate
    sides: dict[str, Any] = {}
    for name, side in (("a", cells.a), ("b", cells.b)):
        cell = side.cell if side else None
        sides |= {f"sweep_{name}": side and side.sweep_id, f"memory_mb_{name}": cell and cell.memory_mb}
        for column in ("variant", "delegate_requested", "delegate_achieved", "latency_median_us", "top1", "cell_key"):
            sides[f"{column}_{name}"] = getattr(cell, column, None)
        sides[f"invocations_{name}"] = len(side.latencies_us) if side else 0
    return {
        "device": cells.cell.device,
        "serial": cells.cell.serial,
        "threads": cells.cell.threads,
        "verdict": finding.verdict.value,
        "ratio": estimate and estimate.value,
        "ratio_low": estimate and estimate.interval.low,
        "ratio_high": estimate and estimate.interval.high,
        "p_value": estimate and estimate.p_value,
        "corrected_p": finding.corrected_p,
        "method": estimate and estimate.method,
        "paired_by_block": cells.paired,
        "noise_floor": finding.floor and finding.floor.value,
        "noise_floor_source": finding.floor and finding.floor.source,
        "why": finding.why,
        "flags": list(cells.flags),
        "regressions": sorted(cells.regressions),
        **sides,
    }


@dataclass(frozen=True)
class _Column:
    heading: str
    worth: int
    """Where the terminal is narrow, columns of less worth are left out first."""
    show: Callable[[ComparedCells], str]
    numeric: bool = True
    is_name: bool = False


def _both(column: str) -> Callable[[ComparedCells], str]:
    """Show a value of both sides once where it is the same."""

    def show(cells: ComparedCells) -> str:
        values = [printable(getattr(side.cell, column)) for side in (cells.a, cells.b) if side]
        return " -> ".join(dict.fromkeys(values))

    return show


def _latency(side: str) -> Callable[[ComparedCells], str]:
    def show(cells: ComparedCells) -> str:
        of_side = getattr(cells, side)
        latency = of_side and of_side.cell.latency_median_us
        return number(latency / 1000) if latency else "-"

    return show


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"


def _difference(cells: ComparedCells) -> str:
    estimate = cells.finding.estimate
    return _percent(estimate.of_medians) if estimate else "-"


def _interval(cells: ComparedCells) -> str:
    estimate = cells.finding.estimate
    if estimate is None:
        return "-"
    return f"{_percent(estimate.shown_interval.low)}..{_percent(estimate.shown_interval.high)}"


def _floor(cells: ComparedCells) -> str:
    floor = cells.finding.floor
    return f"{100 * floor.value:.1f}" if floor else "-"


_BESIDE_LATENCY = {
    Regression.FALLBACK: "fell back",
    Regression.ACCURACY: "less accurate",
    Regression.MEMORY: "more memory",
}


def _verdict(cells: ComparedCells) -> str:
    beside = [words for regression, words in _BESIDE_LATENCY.items() if regression in cells.regressions]
    return ", ".join([cells.finding.verdict, *beside])


_COLUMNS = (
    _Column("variant", 12, _both("variant"), numeric=False, is_name=True),
    _Column("delegate", 11, _both("delegate_requested"), numeric=False, is_name=True),
    _Column("A\nms", 6, _latency("a")),
    _Column("B\nms", 7, _latency("b")),
    _Column("difference\n%", 8, _difference),
    _Column("99 %\ninterval", 2, _interval),
    _Column("noise\nfloor %", 1, _floor),
    _Column("B is", 9, _verdict, numeric=False),
)
_THREADS = _Column("threads", 10, lambda cells: str(cells.cell.threads), is_name=True)


def _columns(compared: Sequence[ComparedCells]) -> list[_Column]:
    several = len({cells.cell.threads for cells in compared}) > 1
    return [*_COLUMNS[:2], *([_THREADS] if several else []), *_COLUMNS[2:]]


def comparison_table(compared: Sequence[ComparedCells]) -> RenderableType:
    """Return one section per device, then why pairs remained open or were refused, then notes and floors.

    If nothing could be compared, the reasons stand alone.
    """
    if all(cells.finding.verdict is FindingVerdict.REFUSED for cells in compared):
        reasons = " ".join(dict.fromkeys(cells.finding.why for cells in compared))
        return Text(f"Nothing could be compared. {printable(reasons)}")
    return Group(_device_tables(compared), *_reasons(compared), *_notes(compared))


def _device_tables(compared: Sequence[ComparedCells]) -> FittedTable:
    columns = _columns(compared)
    devices: dict[str | None, list[ComparedCells]] = {}
    for cells in compared:
        devices.setdefault(cells.cell.serial, []).append(cells)
    sections = [
        Section(
            [
                FittingRow([column.show(cells) for column in columns], _STYLES.get(cells.finding.verdict, ""))
                for cells in of_device
            ],
            f"{printable(of_device[0].cell.device)} ({printable(serial)})",
        )
        for serial, of_device in devices.items()
    ]
    fitting = [
        FittingColumn(column.heading, column.worth, column.numeric, not column.numeric, column.is_name)
        for column in columns
    ]
    return FittedTable(fitting, sections)


def _reasons(compared: Sequence[ComparedCells]) -> list[RenderableType]:
    """Say once for each reason why cells were refused or remained open."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cells in compared:
        if cells.finding.verdict in (FindingVerdict.REFUSED, FindingVerdict.INCONCLUSIVE):
            groups.setdefault((cells.finding.verdict, cells.finding.why), []).append(_place(cells))
    return [
        Text(f"{verdict}: {printable(why)}\n  where: {', '.join(places)}") for (verdict, why), places in groups.items()
    ]


def _place(cells: ComparedCells) -> str:
    return f"{_both('variant')(cells)} {_both('delegate_requested')(cells)} t{cells.cell.threads}"


def _notes(compared: Sequence[ComparedCells]) -> list[RenderableType]:
    flags: dict[str, list[str]] = {}
    for cells in compared:
        for flag in cells.flags:
            flags.setdefault(flag, []).append(_place(cells))
    floors = dict.fromkeys(cells.finding.floor.source for cells in compared if cells.finding.floor)
    lines = [f"note: {printable(flag)}\n  where: {', '.join(places)}" for flag, places in flags.items()]
    lines += [f"noise floor: {printable(source)}" for source in floors]
    return [Text(line, style="dim") for line in lines]


def plain_findings(compared: Sequence[ComparedCells]) -> list[dict[str, str]]:
    """Return what the table shows as text, with the device and the reason, for a pull request or a spreadsheet."""
    columns = _columns(compared)
    return [
        {"device": printable(cells.cell.device)}
        | {" ".join(column.heading.split()): column.show(cells) for column in columns}
        | {"why": cells.finding.why}
        for cells in compared
    ]
