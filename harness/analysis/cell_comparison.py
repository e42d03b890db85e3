"""Compare cells of stored sweeps: which with which, whether they are alike, above which noise floor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.analysis.comparable_cell import ComparableCell, differences, read_comparable_cells
from harness.analysis.comparison import SMALLEST_EFFECT, Finding, FindingVerdict, LatencySamples, compare
from harness.analysis.device_noise import DeviceNoise
from harness.analysis.result_row import ResultRow
from harness.analysis.verdict import FEWEST_INVOCATIONS, NO_LATENCY, Verdict
from harness.errors import UsageError
from harness.store.store import Store
from harness.text import alternatives, words


class Subject(StrEnum):
    """What differs on purpose between the two sides."""

    SWEEP = "sweep"
    VARIANT = "variant"
    DELEGATE = "delegate"


IDENTITY = ("serial", "variant", "delegate_requested", "threads")
"""Columns that two cells share, but for the subject."""

COLUMN_OF = {Subject.VARIANT: "variant", Subject.DELEGATE: "delegate_requested"}


class Regression(StrEnum):
    """What may be worse in B, and what `--fail-on` names."""

    SLOWER = "slower"
    ACCURACY = "accuracy"
    """The intervals of top-1 lie apart."""
    MEMORY = "memory"
    FALLBACK = "fallback"
    """B ran elsewhere than asked, and A did not."""
    REFUSED = "refused"
    """The two could not be compared: one is missing, failed, or not alike."""


MORE_MEMORY = 0.05
"""Relative growth of the footprint that counts: the memory pass is one process, and its footprint moves a little."""


@dataclass(frozen=True)
class ComparedCells:
    """Two cells and what their comparison says; `b` is None if only A holds such a cell, and the reverse."""

    a: ComparableCell | None
    b: ComparableCell | None
    finding: Finding
    paired: bool = False
    flags: tuple[str, ...] = ()
    """What should be kept in mind, each in a few words."""

    @property
    def cell(self) -> ResultRow:
        """The summary's row of B, or of A if there is no B."""
        side = self.b or self.a
        if side is None:
            raise ValueError("a comparison has at least one side")
        return side.cell

    @property
    def regressions(self) -> frozenset[Regression]:
        """Everything that is worse in B."""
        found = {
            Regression.SLOWER: self.finding.verdict is FindingVerdict.SLOWER,
            Regression.REFUSED: self.finding.verdict is FindingVerdict.REFUSED,
        }
        if self.a and self.b:
            a, b = self.a.cell, self.b.cell
            found[Regression.FALLBACK] = _fell_back(b) and not _fell_back(a)
            low, high = a.top1_low, b.top1_high
            found[Regression.ACCURACY] = low is not None and high is not None and high < low
            before, after = a.memory_mb, b.memory_mb
            found[Regression.MEMORY] = bool(before and after and after > before * (1 + MORE_MEMORY))
        return frozenset(name for name, holds in found.items() if holds)


def _fell_back(cell: ResultRow) -> bool:
    return cell.verdict == Verdict.FELL_BACK


@dataclass(frozen=True)
class CellPair:
    """Two cells that are to be compared; one is None if it has no counterpart."""

    a: ComparableCell | None
    b: ComparableCell | None


def pair_cells(a: Sequence[ComparableCell], b: Sequence[ComparableCell], subject: Subject) -> list[CellPair]:
    """Find the counterpart of each cell: equal in `IDENTITY` but for the subject.

    A cell of another device is taken as counterpart only if its own device has none: it is then refused with that
    reason, which says more than that nothing was found.
    """
    keys = [name for name in IDENTITY if name != COLUMN_OF.get(subject)]
    without_device = [name for name in keys if name != "serial"]
    left = list(b)
    couples: dict[int, ComparableCell] = {}
    for wanted in (keys, without_device):
        for index, side in enumerate(a):
            if index in couples:
                continue
            found = next((other for other in left if _same(other.cell, side.cell, wanted)), None)
            if found:
                couples[index] = found
                left.remove(found)
    return [CellPair(side, couples.get(index)) for index, side in enumerate(a)] + [
        CellPair(None, side) for side in left
    ]


def _same(a: ResultRow, b: ResultRow, columns: Iterable[str]) -> bool:
    return all(getattr(a, name) == getattr(b, name) for name in columns)


def compare_cells(
    couples: Iterable[CellPair],
    noise: DeviceNoise,
    *,
    effect: float = SMALLEST_EFFECT,
    allow: Collection[str] = (),
) -> list[ComparedCells]:
    """Compare many couples at once, what a person must look at first in front.

    `allow` names the `CONDITIONS` that may differ; whatever else is not alike is refused.
    """
    compared: list[ComparedCells] = []
    judged: list[tuple[CellPair, LatencySamples, tuple[str, ...]]] = []
    for couple_ in couples:
        reason = _reason_to_refuse(couple_, allow)
        if reason or not (couple_.a and couple_.b):
            compared.append(ComparedCells(couple_.a, couple_.b, Finding(FindingVerdict.REFUSED, reason)))
        else:
            samples = _samples(couple_.a, couple_.b, noise)
            judged.append((couple_, samples, _flags(couple_.a, couple_.b)))
    findings = compare([samples for _, samples, _ in judged], effect=effect)
    compared += [
        ComparedCells(sides.a, sides.b, finding, samples.paired, flags)
        for (sides, samples, flags), finding in zip(judged, findings, strict=True)
    ]
    return sorted(compared, key=_urgency)


def _reason_to_refuse(couple_: CellPair, allow: Collection[str]) -> str:
    """Return why two cells cannot be compared, as a sentence; empty if they can."""
    a, b = couple_.a, couple_.b
    if a is None or b is None:
        return f"Only in {'B' if a is None else 'A'}."
    for name, side in (("A", a), ("B", b)):
        if side.cell.verdict in NO_LATENCY:
            return f"{name} is no measurement: {words(side.cell.failure_class or side.cell.verdict)}."
    kinds = [side.cell.device_kind for side in (a, b)]
    if kinds[0] != kinds[1]:  # not even with leave: what is emulated says nothing of what is not
        return f"A is of a device of kind {kinds[0]}, B of kind {kinds[1]}: these are never compared."
    unlike = [words for name, words in differences(a, b).items() if name not in allow]
    if unlike:
        return f"Not alike: {'; '.join(unlike)}."
    ran = [side.cell.delegate_achieved for side in (a, b)]
    if (_fell_back(a.cell) or _fell_back(b.cell)) and not (_fell_back(a.cell) and _fell_back(b.cell)):
        name, achieved = ("A", ran[0]) if _fell_back(a.cell) else ("B", ran[1])
        return f"{name} fell back: it ran, or part of it, on {achieved}."
    return ""


def _flags(a: ComparableCell, b: ComparableCell) -> tuple[str, ...]:
    """Say what differs with leave, what was unusual about one side alone, and what each lacks for a rank."""
    flags = list(differences(a, b).values())
    for name, own, other in (("A", a, b), ("B", b, a)):
        flags += [f"{name} alone: {label}" for label in sorted(own.labels - other.labels)]
        if own.cell.verdict not in (Verdict.RANKED, Verdict.INCOMPLETE):
            flags.append(f"{name}: {words(own.cell.verdict)}")
    return tuple(flags)


def _samples(a: ComparableCell, b: ComparableCell, noise: DeviceNoise) -> LatencySamples:
    """Pair the processes by block if both sides were measured in turns: within one sweep of one device.

    Cells of one sweep that share too few blocks were measured in different sessions, as cells of two sweeps are.
    """
    medians = a.cell.latency_median_us, b.cell.latency_median_us
    of_medians = medians[1] / medians[0] if medians[0] and medians[1] else None
    blocks = sorted(a.latencies_us.keys() & b.latencies_us.keys())
    in_turns = (a.sweep_id, a.serial) == (b.sweep_id, b.serial)
    fewest = min(len(a.latencies_us), len(b.latencies_us))
    if not in_turns or len(blocks) < FEWEST_INVOCATIONS <= fewest:
        all_a, all_b = list(a.latencies_us.values()), list(b.latencies_us.values())
        return LatencySamples(all_a, all_b, False, noise.between(a, b), of_medians)
    pairs_a, pairs_b = ([side.latencies_us[block] for block in blocks] for side in (a, b))
    return LatencySamples(pairs_a, pairs_b, True, noise.within(a, b, len(blocks)), of_medians)


def _urgency(compared: ComparedCells) -> tuple[int, float]:
    estimate = compared.finding.estimate
    size = 0.0 if estimate is None else max(estimate.value, 1 / estimate.value)
    return list(FindingVerdict).index(compared.finding.verdict), -size


_SPEC_KEYS = {Subject.VARIANT: "recipes", Subject.DELEGATE: "delegates"}


@dataclass(frozen=True)
class _Operand:
    """What `SWEEP` or `SWEEP:VARIANT` names."""

    sweep_id: str
    variant: str | None
    cells: Sequence[ComparableCell]
    of_sweep: Sequence[ComparableCell]
    """All cells of the sweep."""


def _operand(store: Store, text: str) -> _Operand:
    name, _, variant = text.partition(":")
    sweep_id = store.find_sweep(name).id
    cells = read_comparable_cells(store, sweep_id)
    if not cells:
        raise UsageError(f"Sweep {sweep_id} has no cells: nothing was measured.", "Run `harness results list`.")
    if not variant:
        return _Operand(sweep_id, None, cells, cells)
    chosen = [cell for cell in cells if cell.cell.variant == variant]
    if not chosen:
        names = ", ".join(dict.fromkeys(str(cell.cell.variant) for cell in cells))
        raise UsageError(f"Sweep {sweep_id} has no variant {variant!r}.", f"It has: {names}.")
    return _Operand(sweep_id, variant, chosen, cells)


@dataclass(frozen=True)
class PairedCells:
    """The pairs to compare, and all cells of their sweeps, which give the noise floor whatever pairs are asked for."""

    pairs: Sequence[CellPair]
    cells: Sequence[ComparableCell]


def pairs_between(store: Store, a: str, b: str) -> PairedCells:
    """Pair the cells of two operands, each `SWEEP` or `SWEEP:VARIANT`. Raises `UsageError`."""
    first, second = _operand(store, a), _operand(store, b)
    if (first.variant is None) != (second.variant is None):
        raise UsageError(f"Cannot compare {a} with {b}: only one of them names a variant.", "Name both, or neither.")
    if (first.sweep_id, first.variant) == (second.sweep_id, second.variant):
        raise UsageError(f"Cannot compare {a} with {b}: they are the same.", "Name two sweeps, or use --by variant.")
    pairs = pair_cells(first.cells, second.cells, Subject.VARIANT if first.variant else Subject.SWEEP)
    others = second.of_sweep if second.sweep_id != first.sweep_id else ()
    return PairedCells(pairs, [*first.of_sweep, *others])


def pairs_inside(store: Store, a: str, b: str | None, subject: Subject, baseline: str | None) -> PairedCells:
    """Pair every variant or delegate of one sweep with the baseline. Raises `UsageError`."""
    if b is not None:
        raise UsageError(f"Cannot compare by {subject} with a second sweep: {b}.", "Name one sweep only.")
    operand = _operand(store, a)
    column = COLUMN_OF[subject]
    names = list(dict.fromkeys(str(getattr(cell.cell, column)) for cell in operand.cells))
    base = baseline or _first_named(store, operand.sweep_id, _SPEC_KEYS[subject], names)
    if base not in names:
        raise UsageError(f"Invalid value {base!r} for --baseline.", f"Choose {alternatives(names)}.")
    if len(names) == 1:
        raise UsageError(f"Sweep {operand.sweep_id} has only one {subject}: {base}.", "Name a sweep with several.")
    groups = {name: [cell for cell in operand.cells if getattr(cell.cell, column) == name] for name in names}
    pairs = [pair for name in names if name != base for pair in pair_cells(groups[base], groups[name], subject)]
    planned = [pair for pair in pairs if pair.a and pair.b]  # in one sweep, a cell that was not planned is no loss
    return PairedCells(planned, operand.of_sweep)


def _first_named(store: Store, sweep_id: str, key: str, names: Sequence[str]) -> str:
    """Return which of `names` comes first in the sweep's spec, else in the alphabet: `cpu` before all delegates."""
    listed = store.find_sweep(sweep_id).spec.get(key)
    return next((name for name in listed if name in names), min(names)) if isinstance(listed, list) else min(names)
