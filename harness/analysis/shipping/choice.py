"""Which row of a device to ship: within the limits, never one that the pairwise test shows to be slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from harness.analysis.cell_comparison import CellPair, compare_cells
from harness.analysis.comparison import Finding, FindingVerdict
from harness.analysis.result_row import ResultRow
from harness.analysis.sweep_data import SweepData
from harness.analysis.verdict import Verdict

HIDDEN_FACTOR = 1.5
"""A decision between two rows is too noisy if one may take this many times as long as the other, unnoticed."""


@dataclass(frozen=True)
class ShipLimits:
    """What a variant must keep to be shipped; None: no limit."""

    max_drop_points: float | None = 1.0
    """Percentage points of top-1 that may be lost against the float model."""
    max_size_kb: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None

    def as_options(self) -> str:
        """Return the options of `harness report` that set these limits."""
        default = ShipLimits()
        changed = {name: value for name, value in vars(self).items() if value not in (None, getattr(default, name))}
        return " ".join(f"--{'-'.join(name.split('_')[:2])} {value:g}" for name, value in changed.items())

    def words(self) -> str:
        """Name the limits that are set."""
        named = [limit.words for limit in set_limits(self)]
        return "; ".join(named) if named else "none"


@dataclass(frozen=True)
class Limit:
    """One limit that is set."""

    words: str
    name: str
    unit: str
    bound: float
    value: Callable[[ResultRow], float | None]

    def is_met(self, row: ResultRow) -> bool:
        """Return True if the row's value is known and within the limit."""
        value = self.value(row)
        return value is not None and value <= self.bound


def set_limits(limits: ShipLimits) -> list[Limit]:
    """Return the limits that are set."""
    known = (
        (
            "a loss of at most {} percentage {} of accuracy",
            "accuracy lost",
            "points",
            limits.max_drop_points,
            _drop,
        ),
        ("file of at most {} kB", "file", "kB", limits.max_size_kb, _size_kb),
        ("latency of at most {} ms", "latency", "ms", limits.max_latency_ms, lambda row: latency_us(row) / 1000),
        ("at most {} MB of memory", "memory", "MB", limits.max_memory_mb, lambda row: row.memory_mb),
    )
    return [
        Limit(words.format(f"{bound:g}", "point" if bound == 1 else "points"), name, unit, bound, value)
        for words, name, unit, bound, value in known
        if bound is not None
    ]


def _drop(row: ResultRow) -> float | None:
    drop = row.accuracy_drop_points
    return None if drop is None else round(drop, 6)  # 100 * (0.93 - 0.92) is a hair over 1


def _size_kb(row: ResultRow) -> float | None:
    return None if row.size_bytes is None else row.size_bytes / 1000


def latency_us(row: ResultRow) -> float:
    """Return the median of a ranked row, which always has one."""
    return float("inf") if row.latency_median_us is None else row.latency_median_us


@dataclass(frozen=True)
class HiddenDifference:
    """Another row from which the noise hides how far the chosen one is."""

    other: ResultRow
    factor: float


@dataclass(frozen=True)
class Choice:
    """A device's rows, and the one to ship."""

    rows: Sequence[ResultRow]
    fit: Sequence[ResultRow]
    """Ranked rows within the limits, the fastest first."""
    chosen: ResultRow | None
    tied: Sequence[ResultRow]
    """Rows that the pairwise test cannot tell from the fastest one, nor from `chosen`."""
    hidden: HiddenDifference | None
    """The largest difference that the noise hides, if `chosen` may take `HIDDEN_FACTOR` times as long as another."""
    baseline: ResultRow | None
    limits: Sequence[Limit]
    """The limits that the rows were judged by."""

    @property
    def ranked(self) -> list[ResultRow]:
        """The rows that may be chosen at all."""
        return [row for row in self.rows if row.verdict == Verdict.RANKED]


def choose(data: SweepData, rows: Sequence[ResultRow], limits: ShipLimits) -> Choice:
    """Choose among the rows of one device.

    A row is as fast as the fastest if the pairwise test of `harness compare` shows no row of a lower median to be
    faster, and the noise hides no factor of `HIDDEN_FACTOR` between them. Of these rows the smallest file is chosen.
    """
    ranked = [row for row in rows if row.verdict == Verdict.RANKED]
    asked = set_limits(limits)
    if not any(row.accuracy_drop_points is not None for row in ranked):
        asked = [limit for limit in asked if limit.value is not _drop]  # said in a note: nothing to judge by
    fit = sorted((row for row in ranked if all(limit.is_met(row) for limit in asked)), key=latency_us)
    test = _PairwiseTest(data)
    near = [row for row in fit if row is fit[0] or test.is_as_fast(fit[0], row)]
    preferred = sorted(near, key=_preference)
    chosen = next((row for row in preferred if all(test.is_as_fast(other, row) for other in _before(fit, row))), None)
    hidden, tied = None, []
    if chosen:
        hiding = [row for row in fit if row is not chosen and test.hidden_factor(row, chosen) >= HIDDEN_FACTOR]
        factors = [max(test.hidden_factor(row, chosen), test.hidden_factor(chosen, row)) for row in hiding]
        differences = map(HiddenDifference, hiding, factors)
        hidden = max(differences, key=lambda difference: difference.factor, default=None)
        tied = [row for row in near if row is not chosen and not test.is_different(chosen, row)]
    return Choice(rows, fit, chosen, tied, hidden, _baseline(data, ranked), asked)


def _before(rows: Sequence[ResultRow], row: ResultRow) -> Iterator[ResultRow]:
    return takewhile(lambda other: other is not row, rows)


class _PairwiseTest:
    """The test of `harness compare` on two rows of a sweep, alone: a correction for others would hide differences."""

    def __init__(self, data: SweepData) -> None:
        self._noise = data.noise
        self._sides = {side.key: side for side in data.sides}
        self._findings: dict[tuple[str | None, str | None], Finding] = {}

    def is_as_fast(self, faster: ResultRow, row: ResultRow) -> bool:
        """Return True if `row` is not shown to be slower, and cannot be much slower without being noticed."""
        if latency_us(row) >= HIDDEN_FACTOR * latency_us(faster):  # shown to be slower, or hidden: no test needed
            return False
        verdict = self._finding(faster, row).verdict
        return verdict not in (FindingVerdict.SLOWER, FindingVerdict.REFUSED) and (
            self.hidden_factor(faster, row) < HIDDEN_FACTOR
        )

    def is_different(self, a: ResultRow, b: ResultRow) -> bool:
        """Return True if one of two rows is shown to be faster, or they cannot be compared."""
        return self._finding(a, b).verdict not in (FindingVerdict.SAME, FindingVerdict.INCONCLUSIVE)

    def hidden_factor(self, a: ResultRow, b: ResultRow) -> float:
        """Return how many times as long as `a` `b` may take while the test is inconclusive; 1 if it is not."""
        finding = self._finding(a, b)
        if finding.verdict is not FindingVerdict.INCONCLUSIVE:
            return 1.0
        floor = finding.floor.value if finding.floor else 0.0
        return max(1 + floor, finding.estimate.shown_interval.high if finding.estimate else float("inf"))

    def _finding(self, a: ResultRow, b: ResultRow) -> Finding:
        key = (a.cell_key, b.cell_key)
        if key not in self._findings:
            pair = CellPair(self._sides[a.cell_key or ""], self._sides[b.cell_key or ""])
            (compared,) = compare_cells([pair], self._noise)
            self._findings[key] = compared.finding
        return self._findings[key]


def _preference(row: ResultRow) -> tuple[float, ...]:
    """Of rows that are equally fast take the smallest file, then the most accurate, then the lowest median."""
    drop = row.accuracy_drop_points
    unknown = float("inf")
    return (row.size_bytes or unknown, unknown if drop is None else drop, latency_us(row))


def _baseline(data: SweepData, ranked: Sequence[ResultRow]) -> ResultRow | None:
    """Return the fastest row of the untouched model on the CPU, which people would ship without harness."""
    untouched = {variant.name for variant in data.variants if variant.card and not variant.card["steps"]}
    found = [row for row in ranked if row.variant in untouched and row.delegate_requested == "cpu"]
    return min(found, key=latency_us, default=None)
