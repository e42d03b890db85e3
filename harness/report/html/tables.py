"""All rows of all sweeps as the columns of one table, which the page's script sorts, filters and searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.cell_comparison import ComparedCells, Subject, compare_cells, pair_cells
from harness.analysis.promises import judge_promises, promise_titles
from harness.analysis.result_row import ResultRow
from harness.analysis.sweep_data import SweepData, all_evidence
from harness.report.html.figure import milliseconds, ran, verdict_text
from harness.text import number, printable


@dataclass(frozen=True)
class RowColumn:
    """One column; numbers are sorted as numbers and shown with `digits` significant ones."""

    name: str
    heading: str
    value: Callable[[SweepData, ResultRow], Any]
    unit: str = ""
    kind: str = "text"
    """`text`, `number`, `fixed` (some decimals) or `signed`."""
    has_filter: bool = False
    """True if a list of its values lets the reader choose rows."""


def _text(column: str) -> Callable[[SweepData, ResultRow], str | None]:
    return lambda _, row: None if getattr(row, column) is None else printable(getattr(row, column))


def _value(column: str, factor: float = 1) -> Callable[[SweepData, ResultRow], float | None]:
    return lambda _, row: None if getattr(row, column) is None else getattr(row, column) * factor


def _milliseconds(column: str) -> Callable[[SweepData, ResultRow], float | None]:
    return lambda _, row: milliseconds(getattr(row, column))


def _top1(_: SweepData, row: ResultRow) -> float | None:
    return None if row.top1 is None else round(100 * row.top1, row.accuracy_decimals)


def _change(_: SweepData, row: ResultRow) -> float | None:
    return row.accuracy_change_points


DECIDING = ("variant", "delegate", "threads", "device", "verdict", "latency", "size", "memory", "top1", "change")
"""Columns that stand in front; the others follow in the order of `COLUMNS`."""

COLUMNS: tuple[RowColumn, ...] = (
    RowColumn("variant", "variant", _text("variant"), has_filter=True),
    RowColumn("delegate", "delegate", _text("delegate_requested"), has_filter=True),
    RowColumn("threads", "threads", _value("threads"), kind="number"),
    RowColumn("device", "device", _text("device"), has_filter=True),
    RowColumn("sweep", "sweep", lambda data, _: data.record.id, has_filter=True),
    RowColumn("verdict", "verdict", lambda _, row: verdict_text(row)),
    RowColumn("rank", "rank", _value("rank"), kind="number"),
    RowColumn("latency", "latency", _milliseconds("latency_median_us"), "ms", "number"),
    RowColumn("low", "95 % from", _milliseconds("latency_low_us"), "ms", "number"),
    RowColumn("high", "to", _milliseconds("latency_high_us"), "ms", "number"),
    RowColumn("top1", "top-1", _top1, "%", "fixed"),
    RowColumn("change", "change", _change, "points", "signed"),
    RowColumn("snr", "signal to noise", _value("fidelity_snr_db"), "dB", "fixed"),
    RowColumn("answers", "as float", _value("fidelity_agreement", 100), "%", "fixed"),
    RowColumn("size", "file", _value("size_bytes", 1 / 1000), "kB", "number"),
    RowColumn("gzip", "zipped", _value("gzip_size_bytes", 1 / 1000), "kB", "number"),
    RowColumn("memory", "memory", lambda _, row: row.memory_mb, "MB", "number"),
    RowColumn("ran", "ran", lambda _, row: ran(row) if row.cell_key else None),
    RowColumn("cold", "first load", _milliseconds("init_cold_us"), "ms", "number"),
    RowColumn("warm", "next load", _milliseconds("init_warm_us"), "ms", "number"),
    RowColumn("invocations", "invocations", _value("invocations_ok"), kind="number"),
    RowColumn("outcome", "outcome", lambda _, row: str(row.failure_class or row.verdict), has_filter=True),
)
"""`outcome` is not shown: it filters what `verdict` shows."""

_HIDDEN = ("outcome", "rank")
_DIGITS = 6


def row_table(sweeps: Sequence[SweepData]) -> dict[str, Any]:
    """Return columns and rows; a column that tells nothing apart (one sweep, one device) is left out."""
    rows = [[_short(column.value(data, row)) for column in COLUMNS] for data in sweeps for row in data.rows]
    used = [index for index, column in enumerate(COLUMNS) if _is_used(column, [row[index] for row in rows])]
    decimals = min((row.accuracy_decimals for data in sweeps for row in data.rows if row.samples), default=1)
    return {
        "columns": [
            {
                "name": column.name,
                "heading": column.heading,
                "unit": column.unit,
                "kind": column.kind,
                "filter": column.has_filter,
                "hidden": column.name in _HIDDEN,
                "place": DECIDING.index(column.name) if column.name in DECIDING else len(DECIDING),
                "decimals": decimals if column.name in ("top1", "change") else 1,
            }
            for column in (COLUMNS[index] for index in used)
        ],
        "rows": [[row[index] for index in used] for row in rows],
    }


def _short(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _is_used(column: RowColumn, values: Sequence[object]) -> bool:
    if column.name in ("sweep", "threads"):
        return len(set(values)) > 1
    return column.name in ("variant", "verdict", "latency") or any(value is not None for value in values)


MOST_PLACES = 12
MOST_GROUPS = 60


@dataclass(frozen=True)
class FailureGroup:
    """Rows that failed alike."""

    failure_class: str
    message: str
    advice: str
    evidence: str
    """The lines that prove it, of the first row."""
    places: Sequence[str]
    more: int
    """Places that are not named."""


def failure_groups(data: SweepData) -> tuple[list[FailureGroup], int]:
    """Return the groups, the one with most rows first, and how many groups are left out."""
    rows: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for row in data.rows:
        if row.failure_class is not None:
            key = (row.failure_class, printable(row.failure_message or ""))
            names = [data.name_of(row) if row.delegate_requested else row.variant, row.device or row.serial]
            place = ", ".join(printable(name) for name in names if name is not None)
            rows.setdefault(key, []).append((place, row.failure_advice or "", row.failure_evidence or ""))
    groups = []
    for (failure_class, message), failed in sorted(rows.items(), key=lambda item: -len(item[1])):
        places = list(dict.fromkeys(place for place, _, _ in failed))
        _, advice, evidence = failed[0]
        groups.append(
            FailureGroup(
                failure_class, message, advice, evidence, places[:MOST_PLACES], max(0, len(places) - MOST_PLACES)
            )
        )
    return groups[:MOST_GROUPS], max(0, len(groups) - MOST_GROUPS)


_MOST_REASONS = 3


@dataclass(frozen=True)
class KeptPromise:
    """One promise over all rows of a sweep."""

    number: int
    title: str
    kept: int
    broken: int
    unknown: int
    reasons: Sequence[tuple[str, int]]
    """The most frequent sentences of the rows for which it is not kept, else of all, with their count."""

    @property
    def state(self) -> str:
        """The gravest of all rows: `broken`, `unknown` or `kept`."""
        return "broken" if self.broken else "kept" if self.kept else "unknown"


def kept_promises(data: SweepData) -> list[KeptPromise]:
    """Judge every promise for every row; an empty list where the sweep has no cells."""
    judged: dict[int, list[tuple[bool | None, str]]] = {number: [] for number in promise_titles()}
    for evidence in all_evidence(data):
        for promise in judge_promises(evidence):
            judged[promise.number].append((promise.kept, promise.sentence))
    if not data.sides:
        return []
    return [_summed(number, title, judged[number]) for number, title in sorted(promise_titles().items())]


def _summed(number: int, title: str, judged: Sequence[tuple[bool | None, str]]) -> KeptPromise:
    counts = Counter(kept for kept, _ in judged)
    gravest = False if counts[False] else True if counts[True] else None
    sentences = Counter(sentence for kept, sentence in judged if kept is gravest)
    return KeptPromise(number, title, counts[True], counts[False], counts[None], sentences.most_common(_MOST_REASONS))


MOST_FINDINGS = 200


@dataclass(frozen=True)
class DelegateFinding:
    """One cell of another delegate against the same variant on `cpu`; texts are as they are shown."""

    device: str
    variant: str
    delegate: str
    verdict: str
    cpu_ms: str
    delegate_ms: str
    change: str
    """Relative difference of the latency, with its 99 % interval."""
    floor: str
    why: str


def delegate_findings(data: SweepData) -> tuple[list[DelegateFinding], int]:
    """Return what differs most in front, and how many are left out."""
    on_cpu = [side for side in data.sides if side.cell.delegate_requested == "cpu"]
    others = [side for side in data.sides if side.cell.delegate_requested != "cpu"]
    couples = [
        found
        for delegate in dict.fromkeys(side.cell.delegate_requested for side in others)
        for found in pair_cells(
            on_cpu, [side for side in others if side.cell.delegate_requested == delegate], Subject.DELEGATE
        )
        if found.a and found.b
    ]
    compared = compare_cells(couples, data.noise)
    findings = [_finding(cells) for cells in compared[:MOST_FINDINGS]]
    return findings, max(0, len(compared) - MOST_FINDINGS)


def _finding(cells: ComparedCells) -> DelegateFinding:
    estimate, floor = cells.finding.estimate, cells.finding.floor
    change = "-"
    if estimate:
        low, high = _percent(estimate.shown_interval.low), _percent(estimate.shown_interval.high)
        change = f"{_percent(estimate.of_medians)} % ({low} to {high})"
    a, b = (side.cell.latency_median_us if side else None for side in (cells.a, cells.b))
    return DelegateFinding(
        device=printable(cells.cell.device),
        variant=printable(cells.cell.variant),
        delegate=printable(cells.cell.delegate_requested),
        verdict=str(cells.finding.verdict),
        cpu_ms=number(a / 1000) if a else "-",
        delegate_ms=number(b / 1000) if b else "-",
        change=change,
        floor=f"{100 * floor.value:.1f} %" if floor else "-",
        why=printable(cells.finding.why),
    )


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}".replace("-", "\N{MINUS SIGN}")
