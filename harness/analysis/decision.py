"""What to ship on each device, in plain words: never a tie called a win, never a limit passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from harness.analysis.cell_comparison import CellPair, compare_cells
from harness.analysis.comparable_cell import ComparableCell
from harness.analysis.comparison import Finding, FindingVerdict
from harness.analysis.result_row import ResultRow
from harness.analysis.shipping.choice import Choice, HiddenDifference, ShipLimits, choose, latency_us
from harness.analysis.sweep_data import SweepData, grouped
from harness.text import number, pluralize, printable, words

_CERTAIN = (FindingVerdict.FASTER, FindingVerdict.SLOWER, FindingVerdict.SAME)
_MULTIPLIED = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"
_TIMES = 1.1
"""From this ratio on people say `1.1x`, below it percent."""


@dataclass(frozen=True)
class KeyFigure:
    """One number of a decision, with what stands behind it."""

    name: str
    value: str
    detail: str


class DecisionOutcome(StrEnum):
    """How a decision ends."""

    SHIP = "ship"
    TOO_NOISY = "too_noisy"
    """The noise hides differences that would change the answer."""
    NONE = "none"
    """Nothing can be shipped."""


@dataclass(frozen=True)
class Decision:
    """What to do on one device."""

    device: str
    serial: str
    outcome: DecisionOutcome
    ship: str
    """The variant and delegate, such as `int8 on cpu`; empty if nothing is recommended."""
    cell_key: str | None
    """The row to ship."""
    answer: str
    """The whole answer in one sentence without the device: `ship int8 on cpu: 2.0x faster than fp32 on cpu.`"""
    figures: Sequence[KeyFigure] = ()
    notes: Sequence[str] = ()
    """Sentences a person must know with it."""

    @property
    def headline(self) -> str:
        """The whole answer in one sentence."""
        return f"On {self.device}, {self.answer}"

    def as_json(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return asdict(self) | {"headline": self.headline}


def decide(data: SweepData, limits: ShipLimits) -> list[Decision]:
    """Return a decision for each device that was to be measured; none for an A/A sweep, which decides nothing."""
    if data.record.is_noise:
        return []
    choices = [
        choose(data, rows, limits)
        for serial, rows in grouped(data.rows, lambda row: row.serial).items()
        if serial is not None
    ]
    findings = _findings(data, choices)
    return [_decision(data, choice, finding) for choice, finding in zip(choices, findings, strict=True)]


def _findings(data: SweepData, choices: Sequence[Choice]) -> list[Finding | None]:
    """Compare each choice with its baseline, all at once so that the correction for many comparisons sees them all."""
    sides = {side.key: side for side in data.sides}
    couples: list[CellPair | None] = [_couple(sides, choice) for choice in choices]
    compared = compare_cells([couple for couple in couples if couple], data.noise)
    by_key = {cells.b.key: cells.finding for cells in compared if cells.b}
    return [by_key[couple.b.key] if couple and couple.b else None for couple in couples]


def _couple(sides: Mapping[str, ComparableCell], choice: Choice) -> CellPair | None:
    a, b = choice.baseline, choice.chosen
    if a is None or b is None or a is b:
        return None
    return CellPair(sides[a.cell_key or ""], sides[b.cell_key or ""])


def _decision(data: SweepData, choice: Choice, finding: Finding | None) -> Decision:
    first = choice.rows[0]
    device, serial = printable(first.device or first.serial), printable(first.serial)
    chosen = choice.chosen
    if chosen is None:
        return Decision(
            device, serial, DecisionOutcome.NONE, "", None, _why_none(choice), notes=_near_misses(data, choice)
        )
    if choice.hidden:
        answer = _too_noisy(data, chosen, choice.hidden)
        return Decision(device, serial, DecisionOutcome.TOO_NOISY, "", None, answer, notes=_labels(chosen))
    ship = printable(data.name_of(chosen))
    claims = _claims(data, choice, chosen, finding)
    answer = f"ship {ship}" + (f": {', '.join(claims)}." if claims else ".")
    figures, notes = _figures(choice, chosen, finding), _notes(data, choice, chosen, finding)
    return Decision(device, serial, DecisionOutcome.SHIP, ship, chosen.cell_key, answer, figures, notes)


_MORE_CERTAIN = {"quick": "Repeat with --preset standard.", "standard": "Repeat with --preset strict."}


def _too_noisy(data: SweepData, chosen: ResultRow, hidden: HiddenDifference) -> str:
    between = _list([data.name_of(row) for row in sorted((chosen, hidden.other), key=latency_us)], " and ")
    factor = f"a factor of {number(hidden.factor, 2)}" if hidden.factor < float("inf") else "any difference"
    advice = _MORE_CERTAIN.get(data.record.preset, "Repeat it while nothing else runs.")
    return f"too noisy to decide: the noise hides {factor} between {between}. {advice}"


def _claims(data: SweepData, choice: Choice, chosen: ResultRow, finding: Finding | None) -> list[str]:
    """Return what it gains and loses against the untouched model; a gain in speed that is shown comes first."""
    base = choice.baseline
    if len(choice.ranked) == 1:
        return ["the only row that could be ranked"]
    if base is chosen:
        return ["the model as it is, because nothing that meets your limits is shown to be better"]
    claims = []
    if chosen.accuracy_change_points is not None:
        claims.append(_points(chosen) if chosen.accuracy_change_points else "no loss")
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
    return _factor(1 / finding.estimate.of_medians, "faster than", "slower than", "as fast as")


def _factor(ratio: float, more: str, less: str, same: str) -> str:
    times = max(ratio, 1 / ratio)
    percent = 100 * (1 - 1 / times if ratio > 1 else times - 1)
    if times < 1.005:  # noqa: PLR2004 - what would be shown as 0 %
        return same
    size = f"{times:.1f}{_MULTIPLIED}" if times >= _TIMES else f"{percent:.0f} %"
    return f"{size} {more if ratio > 1 else less}"


def _points(row: ResultRow) -> str:
    change = row.accuracy_change_points or 0.0
    sign = "±" if change == 0 else "+" if change > 0 else _MINUS
    return f"{sign}{abs(change):.{row.accuracy_decimals}f} points"


def _figures(choice: Choice, chosen: ResultRow, finding: Finding | None) -> list[KeyFigure]:
    base = choice.baseline if choice.baseline is not chosen else None
    versus = printable(base.variant) if base else ""
    low, high = (number((end or 0) / 1000) for end in (chosen.latency_low_us, chosen.latency_high_us))
    figures = [
        KeyFigure(
            "Latency",
            f"{number(latency_us(chosen) / 1000)} ms",
            f"95 % interval {low} to {high} ms, {pluralize(chosen.invocations_ok or 0, 'invocation')}"
            if chosen.latency_low_us is not None
            else "no interval",
        )
    ]
    if finding and finding.estimate:
        ratio = finding.estimate
        floor = f"; noise floor {100 * finding.floor.value:.1f} %" if finding.floor else ""
        interval = ratio.shown_interval
        figures.append(
            KeyFigure(
                f"Time against {versus}",
                _signed_percent(ratio.of_medians) if finding.verdict in _CERTAIN else str(finding.verdict),
                f"99 % interval {_signed_percent(interval.low)} to {_signed_percent(interval.high)}{floor}",
            )
        )
    if chosen.top1 is not None:
        top1, least, most = (
            f"{100 * (share or 0):.{chosen.accuracy_decimals}f}"
            for share in (chosen.top1, chosen.top1_low, chosen.top1_high)
        )
        change = "" if chosen.accuracy_change_points is None else f"{_points(chosen)}; "
        figures.append(KeyFigure("Top-1", f"{top1} %", f"{change}95 % interval {least} to {most} %"))
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


def _notes(data: SweepData, choice: Choice, chosen: ResultRow, finding: Finding | None) -> list[str]:
    notes = []
    if choice.tied:
        names = _list([data.name_of(row) for row in choice.tied])
        smallest = all((row.size_bytes or 0) > (chosen.size_bytes or 0) for row in choice.tied)
        reason = "; of these it has the smallest file" if smallest else ""
        notes.append(f"The data cannot tell it from {names} in latency{reason}.")
    if finding and finding.verdict in (FindingVerdict.INCONCLUSIVE, FindingVerdict.REFUSED):
        notes.append(printable(finding.why))
    if choice.baseline is None:
        notes.append("The untouched model has no ranked row on cpu here, so there is nothing to compare with.")
    elif choice.baseline not in choice.fit:
        notes.append(f"{printable(data.name_of(choice.baseline))} does not meet your limits.")
    if chosen.accuracy_drop_points is None:
        notes.append("Accuracy was not measured, so no limit on it could be kept.")
    elif chosen.accuracy_change_points and _is_within(chosen.float_top1, chosen.top1_low, chosen.top1_high):
        notes.append(f"With only {chosen.samples} samples, this change in accuracy may be chance.")
    return notes + _labels(chosen)


def _labels(row: ResultRow) -> list[str]:
    return [f"Measured on: {', '.join(map(printable, row.labels))}."] if row.labels else []


def _is_within(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and low is not None and high is not None and low <= value <= high


def _list(names: Sequence[str], separator: str = ", ", most: int = 4) -> str:
    shown = [printable(name) for name in names[:most]]
    return separator.join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _why_none(choice: Choice) -> str:
    if choice.ranked:
        return f"no variant meets your limits: {'; '.join(limit.words for limit in choice.limits)}."
    reasons = dict.fromkeys(words(row.failure_class or row.verdict) for row in choice.rows)
    return f"nothing can be shipped: no row could be ranked ({_list(list(reasons))})."


def _near_misses(data: SweepData, choice: Choice) -> list[str]:
    """Say for each limit how many rows break it, and which comes nearest."""
    ranked, notes = choice.ranked, []
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
