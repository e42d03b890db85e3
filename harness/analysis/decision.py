"""What to ship on each device, in plain words: never a tie called a win, never a limit passed over in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.cell_comparison import CellPair, compare_cells
from harness.analysis.comparable_cell import ComparableCell
from harness.analysis.comparison import Finding, FindingVerdict
from harness.analysis.result_row import ResultRow
from harness.analysis.statistics import Estimate
from harness.analysis.sweep_data import SweepData, grouped
from harness.analysis.verdict import Verdict, rank
from harness.text import number, pluralize, printable

_CERTAIN = (FindingVerdict.FASTER, FindingVerdict.SLOWER, FindingVerdict.SAME)
_MULTIPLIED = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"
_TIMES = 1.1
"""From this ratio on people say `1.1x`, below it percent."""


@dataclass(frozen=True)
class ShipLimits:
    """What a variant must keep to be shipped; None: no limit."""

    max_drop_points: float | None = 1.0
    """Percentage points of top-1 that may be lost against the float model."""
    max_size_kb: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None

    def words(self) -> str:
        """Name the limits that are set."""
        named = [limit.words for limit in _limits(self)]
        return "; ".join(named) if named else "none"


@dataclass(frozen=True)
class _Limit:
    words: str
    name: str
    unit: str
    bound: float
    value: Callable[[ResultRow], float | None]

    def is_met(self, row: ResultRow) -> bool:
        value = self.value(row)
        return value is not None and value <= self.bound


def _limits(limits: ShipLimits) -> list[_Limit]:
    known = (
        (
            "a loss of at most {} percentage points of accuracy",
            "accuracy lost",
            "points",
            limits.max_drop_points,
            _drop,
        ),
        ("file of at most {} kB", "file", "kB", limits.max_size_kb, _size_kb),
        ("latency of at most {} ms", "latency", "ms", limits.max_latency_ms, _latency_ms),
        ("at most {} MB of memory", "memory", "MB", limits.max_memory_mb, lambda row: row.memory_mb),
    )
    return [
        _Limit(words.format(f"{bound:g}"), name, unit, bound, value)
        for words, name, unit, bound, value in known
        if bound is not None
    ]


def _drop(row: ResultRow) -> float | None:
    drop = row.accuracy_drop_points
    return None if drop is None else round(drop, 6)  # 100 * (0.93 - 0.92) is a hair over 1


def _size_kb(row: ResultRow) -> float | None:
    return None if row.size_bytes is None else row.size_bytes / 1000


def _latency_ms(row: ResultRow) -> float | None:
    return None if row.latency_median_us is None else row.latency_median_us / 1000


@dataclass(frozen=True)
class KeyFigure:
    """One number of a decision, with what stands behind it."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True)
class Decision:
    """What to do on one device."""

    device: str
    serial: str
    ship: str
    """The variant and delegate, such as `int8 on cpu`; empty if nothing can be shipped."""
    headline: str
    """The whole answer in one sentence."""
    figures: Sequence[KeyFigure]
    notes: Sequence[str]
    """Sentences a person must know with it."""


@dataclass(frozen=True)
class _Choice:
    """A device's rows, and what was picked of them."""

    rows: Sequence[ResultRow]
    chosen: ResultRow | None
    tied: Sequence[ResultRow]
    """As fast as `chosen`, as far as the data tell."""
    baseline: ResultRow | None
    limits: Sequence[_Limit]


def decide(data: SweepData, limits: ShipLimits) -> list[Decision]:
    """Return a decision for each device that was to be measured; none for an A/A sweep, which decides nothing."""
    if data.record.is_noise:
        return []
    choices = [
        _choose(data, rows, limits)
        for serial, rows in grouped(data.rows, lambda row: row.serial).items()
        if serial is not None
    ]
    findings = _findings(data, choices)
    return [_decision(data, choice, finding) for choice, finding in zip(choices, findings, strict=True)]


def _choose(data: SweepData, rows: Sequence[ResultRow], limits: ShipLimits) -> _Choice:
    ranked = [row for row in rows if row.verdict == Verdict.RANKED]
    asked = _limits(limits)
    if not any(row.accuracy_drop_points is not None for row in ranked):
        asked = [limit for limit in asked if limit.value is not _drop]  # said in a note: nothing to judge by
    fit = [row for row in ranked if all(limit.is_met(row) for limit in asked)]
    places = rank({index: _estimate(row) for index, row in enumerate(fit)})
    fastest = [row for index, row in enumerate(fit) if places[index].place == 1]
    chosen = min(fastest, key=_preference, default=None)
    tied = [row for row in fastest if row is not chosen]
    return _Choice(rows, chosen, tied, _baseline(data, ranked), asked)


def _latency_us(row: ResultRow) -> float:
    """Return the median of a ranked row, which always has one."""
    return float("inf") if row.latency_median_us is None else row.latency_median_us


def _estimate(row: ResultRow) -> Estimate:
    return Estimate(_latency_us(row), row.latency_low_us, row.latency_high_us, row.invocations_ok or 0)


def _preference(row: ResultRow) -> tuple[float, ...]:
    """Of rows that are equally fast take the smallest file, then the most accurate, then the lowest median."""
    drop = row.accuracy_drop_points
    unknown = float("inf")
    return (row.size_bytes or unknown, unknown if drop is None else drop, _latency_us(row))


def _baseline(data: SweepData, ranked: Sequence[ResultRow]) -> ResultRow | None:
    """Return the fastest row of the untouched model on the CPU, which people would ship without harness."""
    untouched = {variant.name for variant in data.variants if variant.card and not variant.card["steps"]}
    found = [row for row in ranked if row.variant in untouched and row.delegate_requested == "cpu"]
    return min(found, key=_latency_us, default=None)


def _findings(data: SweepData, choices: Sequence[_Choice]) -> list[Finding | None]:
    """Compare each choice with its baseline, all at once so that the correction for many comparisons sees them all."""
    sides = {side.key: side for side in data.sides}
    couples: list[CellPair | None] = [_couple(sides, choice) for choice in choices]
    compared = compare_cells([couple for couple in couples if couple], data.noise)
    by_key = {cells.b.key: cells.finding for cells in compared if cells.b}
    return [by_key[couple.b.key] if couple and couple.b else None for couple in couples]


def _couple(sides: Mapping[str, ComparableCell], choice: _Choice) -> CellPair | None:
    a, b = choice.baseline, choice.chosen
    if a is None or b is None or a is b:
        return None
    return CellPair(sides[a.cell_key or ""], sides[b.cell_key or ""])


def _decision(data: SweepData, choice: _Choice, finding: Finding | None) -> Decision:
    first = choice.rows[0]
    device, serial = printable(first.device or first.serial), printable(first.serial)
    chosen = choice.chosen
    if chosen is None:
        return Decision(device, serial, "", f"On {device}, {_why_none(choice)}", (), _near_misses(data, choice))
    ship = printable(data.name_of(chosen))
    claims = _claims(data, choice, chosen, finding)
    headline = f"On {device}, ship {ship}" + (f": {', '.join(claims)}." if claims else ".")
    return Decision(
        device, serial, ship, headline, _figures(choice, chosen, finding), _notes(data, choice, chosen, finding)
    )


def _claims(data: SweepData, choice: _Choice, chosen: ResultRow, finding: Finding | None) -> list[str]:
    """Return what it gains and loses against the untouched model; a gain in speed that is shown comes first."""
    base = choice.baseline
    if base is chosen:
        return ["the model as it is, since nothing that meets your limits is shown to be better"]
    claims = []
    if chosen.accuracy_drop_points is not None:
        claims.append(_points(chosen.accuracy_drop_points))
    if base and base.size_bytes and chosen.size_bytes:
        claims.append(_factor(base.size_bytes / chosen.size_bytes, "smaller", "larger", "as large"))
    if base and finding:
        speed = f"{_speed(finding)} {printable(data.name_of(base))}"
        claims.insert(0 if finding.verdict in _CERTAIN else len(claims), speed)
    return claims


def _speed(finding: Finding) -> str:
    words = {
        FindingVerdict.SAME: "as fast as",
        FindingVerdict.INCONCLUSIVE: "not shown to be faster or slower than",
        FindingVerdict.REFUSED: "not comparable with",
    }
    if finding.verdict in words or finding.estimate is None:
        return words.get(finding.verdict, words[FindingVerdict.INCONCLUSIVE])
    return _factor(1 / finding.estimate.value, "faster than", "slower than", "as fast as")


def _factor(ratio: float, more: str, less: str, same: str) -> str:
    times = max(ratio, 1 / ratio)
    percent = 100 * (1 - 1 / times)
    if times < 1.005:  # noqa: PLR2004 - what would be shown as 0 %
        return same
    size = f"{times:.1f}{_MULTIPLIED}" if times >= _TIMES else f"{percent:.0f} %"
    return f"{size} {more if ratio > 1 else less}"


def _points(drop: float) -> str:
    change = round(-drop, 1) + 0.0
    return "±0.0 points" if change == 0 else f"{'+' if change > 0 else _MINUS}{abs(change):.1f} points"


def _figures(choice: _Choice, chosen: ResultRow, finding: Finding | None) -> list[KeyFigure]:
    base = choice.baseline if choice.baseline is not chosen else None
    versus = printable(base.variant) if base else ""
    low, high = (number((end or 0) / 1000) for end in (chosen.latency_low_us, chosen.latency_high_us))
    figures = [
        KeyFigure(
            "Latency",
            f"{number(_latency_us(chosen) / 1000)} ms",
            f"95 % interval {low} to {high} ms, {pluralize(chosen.invocations_ok or 0, 'invocation')}"
            if chosen.latency_low_us is not None
            else "no interval",
        )
    ]
    if finding and finding.estimate:
        ratio = finding.estimate
        floor = f"; noise floor {100 * finding.floor.value:.1f} %" if finding.floor else ""
        told = _signed_percent(ratio.value) if finding.verdict in _CERTAIN else str(finding.verdict)
        figures.append(
            KeyFigure(
                f"Time against {versus}",
                told,
                f"99 % interval {_signed_percent(ratio.interval.low)} to {_signed_percent(ratio.interval.high)}{floor}",
            )
        )
    if chosen.top1 is not None:
        detail = f"{_points(chosen.accuracy_drop_points)}" if chosen.accuracy_drop_points is not None else ""
        interval = f"95 % interval {100 * (chosen.top1_low or 0):.1f} to {100 * (chosen.top1_high or 0):.1f} %"
        figures.append(KeyFigure("Top-1", f"{100 * chosen.top1:.1f} %", "; ".join(filter(None, [detail, interval]))))
    if chosen.size_bytes:
        against = f"{versus}: {number(base.size_bytes / 1000)} kB" if base and base.size_bytes else "on disk"
        figures.append(KeyFigure("File", f"{number(chosen.size_bytes / 1000)} kB", against))
    memory, before = chosen.memory_mb, base.memory_mb if base else None
    if memory is not None:
        figures.append(
            KeyFigure(
                "Memory",
                f"{number(memory)} MB",
                f"{versus}: {number(before)} MB" if before is not None else "footprint",
            )
        )
    return figures


def _signed_percent(ratio: float) -> str:
    percent = round(100 * (ratio - 1), 1) + 0.0
    return f"{_MINUS if percent < 0 else '+'}{abs(percent):.1f} %"


def _notes(data: SweepData, choice: _Choice, chosen: ResultRow, finding: Finding | None) -> list[str]:
    notes = []
    if choice.tied:
        names = _list([data.name_of(row) for row in choice.tied])
        notes.append(f"The data cannot tell it from {names} in latency; of these it has the smallest file.")
    if finding and finding.verdict in (FindingVerdict.INCONCLUSIVE, FindingVerdict.REFUSED):
        notes.append(printable(finding.why))
    if choice.baseline is None:
        notes.append("The untouched model has no ranked row on cpu here, so there is nothing to compare with.")
    if chosen.accuracy_drop_points is None:
        notes.append("Accuracy was not measured, so no limit on it could be kept.")
    elif _is_within(chosen.float_top1, chosen.top1_low, chosen.top1_high):
        notes.append("The change in accuracy lies inside the interval: with this many samples it may be chance.")
    if chosen.labels:
        notes.append(f"Measured on: {', '.join(map(printable, chosen.labels))}.")
    return notes


def _is_within(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and low is not None and high is not None and low <= value <= high


def _list(names: Sequence[str], most: int = 4) -> str:
    shown = [printable(name) for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _why_none(choice: _Choice) -> str:
    ranked = [row for row in choice.rows if row.verdict == Verdict.RANKED]
    if ranked:
        return f"no variant meets your limits: {'; '.join(limit.words for limit in choice.limits)}."
    reasons = dict.fromkeys(str(row.failure_class or row.verdict) for row in choice.rows)
    return f"nothing can be shipped: no row could be ranked ({_list(list(reasons))})."


def _near_misses(data: SweepData, choice: _Choice) -> list[str]:
    """Say for each limit how many rows break it, and which comes nearest."""
    ranked = [row for row in choice.rows if row.verdict == Verdict.RANKED]
    notes = []
    for limit in choice.limits:
        broken = [row for row in ranked if not limit.is_met(row)]
        known = {limit.value(row): row for row in broken if limit.value(row) is not None}
        if not broken:
            continue
        sentence = f"{limit.name.capitalize()}: {len(broken)} of {pluralize(len(ranked), 'ranked row')} over the limit"
        values = [value for value in known if value is not None]
        nearest = min(values, default=None)
        if nearest is not None:
            sentence += (
                f"; the nearest is {printable(data.name_of(known[nearest]))} with {number(nearest)} {limit.unit}"
            )
        notes.append(sentence + ".")
    return notes
