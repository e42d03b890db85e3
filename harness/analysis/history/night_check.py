"""What one night says: each cell against its last good night and its history, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.analysis.cell_comparison import CellPair, ComparedCells, Regression, compare_cells
from harness.analysis.comparable_cell import ComparableCell, read_comparable_cells
from harness.analysis.comparison import SMALLEST_EFFECT
from harness.analysis.device_noise import LATEST_SWEEPS, DeviceNoise, between_floor, noise_cells
from harness.analysis.history.nights import LATEST_NIGHTS, CellName, CellNights, Night, read_nights
from harness.analysis.history.steps import HistoryStep, changes, find_shifts
from harness.analysis.noise_floor import NoiseFloor
from harness.analysis.result_row import ResultRow
from harness.analysis.summary import summarize
from harness.analysis.verdict import FEWEST_INVOCATIONS
from harness.errors import FailureClass
from harness.store.reader import StoreReader


class Trouble(StrEnum):
    """What may be wrong with a cell, and what `--fail-on` of `harness nightly` names."""

    FAILED = "failed"
    SLOWER = "slower"
    """Than in its last good night."""
    STEP = "step"
    """Slower for some nights now, and found tonight for the first time: too small for one night to show."""
    ACCURACY = "accuracy"
    MEMORY = "memory"
    FALLBACK = "fallback"
    REFUSED = "refused"
    """Not alike its last good night, so not compared."""
    LEFT_OUT = "left-out"
    """Not measured, or by fewer than five processes, since the time was up."""


BY_DEFAULT = (Trouble.FAILED, Trouble.SLOWER, Trouble.STEP, Trouble.ACCURACY, Trouble.FALLBACK)
"""What makes a night bad unless something else is asked for."""


@dataclass(frozen=True)
class CheckedCell:
    """One cell of one night."""

    side: ComparableCell
    compared: ComparedCells | None
    """None if there was no earlier night, or tonight has too few processes."""
    new_step: HistoryStep | None

    @property
    def name(self) -> CellName:
        """What names it in every night."""
        return name_of(self.side)

    @property
    def is_left_out(self) -> bool:
        """Return True if the time was up before it was measured."""
        return self.side.cell.failure_class is None and len(self.side.latencies_us) < FEWEST_INVOCATIONS

    @property
    def troubles(self) -> frozenset[Trouble]:
        """Everything that is wrong with it."""
        failure = self.side.cell.failure_class
        own = {
            Trouble.FAILED: failure not in (None, FailureClass.FELL_BACK),
            Trouble.STEP: self.new_step is not None,
            Trouble.LEFT_OUT: self.is_left_out,
        }
        regressions: Collection[Regression] = self.compared.regressions if self.compared else ()
        return frozenset([trouble for trouble, holds in own.items() if holds] + [Trouble(name) for name in regressions])


@dataclass(frozen=True)
class NightCheck:
    """What one night says."""

    sweep_id: str
    cells: Sequence[CheckedCell]
    other_failures: Sequence[ResultRow]
    """Rows of the summary of devices and recipes that failed as a whole."""

    def troubled(self, trouble: Trouble) -> list[CheckedCell]:
        """Return the cells that have some trouble."""
        return [cell for cell in self.cells if trouble in cell.troubles]

    def is_bad(self, fail_on: Collection[Trouble]) -> bool:
        """Return True if anything happened that `fail_on` names, or the time was up before anything could happen."""
        failed = bool(self.other_failures) and Trouble.FAILED in fail_on
        blind = bool(fail_on) and all(cell.is_left_out for cell in self.cells)
        return failed or blind or any(self.troubled(trouble) for trouble in fail_on)

    @property
    def is_empty(self) -> bool:
        """Return True if every device failed as a whole, so that nothing says anything of a cell."""
        of_devices = [row for row in self.other_failures if row.variant is None]
        tried = any(cell.side.latencies_us or cell.side.cell.invocations_failed for cell in self.cells)
        return bool(of_devices) and not tried


def name_of(side: ComparableCell) -> CellName:
    """Return what names a side's cell in every sweep."""
    cell = side.cell
    return CellName(side.serial, cell.variant or "", cell.delegate_requested or "", cell.threads or 0)


def check_night(
    store: StoreReader, sweep_id: str, *, effect: float = SMALLEST_EFFECT, last: int = LATEST_NIGHTS
) -> NightCheck:
    """Compare every cell of a sweep with its last good night that is alike, else refuse the last good one."""
    sides = read_comparable_cells(store, sweep_id)
    serials = sorted({side.serial for side in sides})
    cells = [cell for serial in serials for cell in read_nights(store, serial=serial, last=last)]
    known = {cell.name: _until(cell, sweep_id) for cell in cells}
    ours = {name_of(side): known[name_of(side)] for side in sides}
    before = {name: night for name, cell in ours.items() if (night := last_good_night(cell, sweep_id))}
    couples = _couples(store, sides, before)
    at_hand = [side for couple in couples for side in (couple.a, couple.b) if side]
    noise = NightNoise(ours.values(), noise_cells(store, serials), at_hand)
    compared = {cells.b.key: cells for cells in compare_cells(couples, noise, effect=effect) if cells.b}
    checked = [
        CheckedCell(side, compared.get(side.key), new_step(ours[name_of(side)], sweep_id, effect=effect))
        for side in sides
    ]
    return NightCheck(sweep_id, checked, [row for row in summarize(store, sweep_id) if row.cell_key is None])


def _until(cell: CellNights, sweep_id: str) -> CellNights:
    """Leave out what came later: an old night is judged by what was known then."""
    return CellNights(cell.name, cell.device, [night for night in cell.nights if night.sweep_id <= sweep_id])


def last_good_night(cell: CellNights, sweep_id: str) -> Night | None:
    """Return the last good night before a sweep that is alike it; where none is, the last good one.

    A sweep with other settings of the measurement, such as one by hand, is no night before this one.
    """
    tonight = next((night for night in cell.nights if night.sweep_id == sweep_id), None)
    earlier = [night for night in reversed(cell.good) if night.sweep_id < sweep_id]
    if tonight is not None:
        earlier = [night for night in earlier if night.conditions["mode"] == tonight.conditions["mode"]]
    if tonight is None:
        return next(iter(earlier), None)
    return next((night for night in earlier if _is_alike(night, tonight)), next(iter(earlier), None))


def _is_alike(night: Night, tonight: Night) -> bool:
    """Return True if two nights may be compared; where each `ran` is a finding, not a reason to look further back."""
    return not any(change.parts_nights and change.what != "ran" for change in changes(night, tonight))


def _couples(store: StoreReader, sides: Sequence[ComparableCell], before: dict[CellName, Night]) -> list[CellPair]:
    earlier = {
        (sweep_id, name_of(side)): side
        for sweep_id in sorted({night.sweep_id for night in before.values()})
        for side in read_comparable_cells(store, sweep_id)
    }
    return [
        CellPair(earlier[before[name_of(side)].sweep_id, name_of(side)], side)
        for side in sides
        if name_of(side) in before and len(side.latencies_us) >= FEWEST_INVOCATIONS
    ]


def new_step(cell: CellNights, sweep_id: str, *, effect: float) -> HistoryStep | None:
    """Return a step to a slower level that tonight shows for the first time; None if there is none.

    Every night since the step is asked, not only the last one: what is close to chance may come, go and come again.
    """
    if not cell.good or cell.good[-1].sweep_id != sweep_id:
        return None
    for step in reversed(_slower_steps(cell, effect)):
        earlier = (
            _slower_steps(CellNights(cell.name, cell.device, cell.good[:end]), effect)
            for end in range(len(cell.good) - 1, step.at, -1)
        )
        if not any(_same_place(step, old) for steps in earlier for old in steps):
            return step
    return None


def _slower_steps(cell: CellNights, effect: float) -> list[HistoryStep]:
    return [step for step in find_shifts(cell, effect=effect).steps if step.alike and step.is_slower]


def _same_place(one: HistoryStep, other: HistoryStep) -> bool:
    return other.earliest <= one.latest and one.earliest <= other.latest


FEWEST_SWEEPS = 3
"""As for `harness noise`: with three the floor is ten times their deviation, with twenty four times."""


class NightNoise(DeviceNoise):
    """Takes nights of one cell with the same contents and conditions as A/A sweeps; else what `harness noise` knows."""

    def __init__(
        self, cells: Iterable[CellNights], noise_cells: Sequence[ComparableCell], at_hand: Sequence[ComparableCell]
    ) -> None:
        """`cells` are those whose nights may serve; the nights that are compared (`at_hand`) tell nothing of noise."""
        super().__init__(noise_cells, at_hand)
        compared = {side.sweep_id for side in at_hand}
        nights = (_as_side(cell, night) for cell in cells for night in _since_last_step(cell))
        self._nights = [side for side in nights if side.sweep_id not in compared]

    def between(self, a: ComparableCell, b: ComparableCell) -> NoiseFloor:
        """Return the floor of two cells of different sweeps: from like cells of the same phone and delegate."""
        wanted = ("os", "device")
        like = [
            side
            for side in self._nights
            if side.cell.delegate_requested == b.cell.delegate_requested
            and all(side.conditions[name] == b.conditions[name] for name in wanted)
        ]
        sweeps = sorted({side.sweep_id for side in like})
        floor = between_floor(like) if len(sweeps) >= FEWEST_SWEEPS else None
        if floor is None:
            return super().between(a, b)
        return replace(floor, source=f"{len(sweeps)} earlier nights, the last {sweeps[-1]}")


def _since_last_step(cell: CellNights) -> list[Night]:
    """Leave out what lies before a step: it would pass for noise."""
    steps = find_shifts(cell, effect=0).steps
    return cell.good[steps[-1].at if steps else 0 :][-LATEST_SWEEPS:]


def _as_side(cell: CellNights, night: Night) -> ComparableCell:
    row = ResultRow(
        sweep_id=night.sweep_id,
        serial=cell.name.serial,
        delegate_requested=cell.name.delegate,
        cell_key=night.cell_key,
        verdict=str(night.verdict),
    )
    return ComparableCell(night.sweep_id, row, night.conditions, night.latencies_us)


def trouble_sentence(cell: CheckedCell, trouble: Trouble) -> str:
    """Return what is wrong with a cell, in one sentence."""
    row = cell.side.cell
    if trouble is Trouble.FAILED:
        return f"{row.failure_class}: {row.failure_message} {row.failure_advice or ''}".strip()
    if trouble is Trouble.LEFT_OUT:
        return f"Stopped after {len(cell.side.latencies_us)} of its processes; {FEWEST_INVOCATIONS} are the least."
    if trouble is Trouble.STEP and cell.new_step:
        step, interval = cell.new_step, cell.new_step.estimate.interval
        return (
            f"Slower by {_percent(step.estimate.value)} (99 % interval {_percent(interval.low)} to "
            f"{_percent(interval.high)}) since sweep {step.sweep_id}; found tonight."
        )
    return _against_last_night(cell, trouble)


def _against_last_night(cell: CheckedCell, trouble: Trouble) -> str:
    if cell.compared is None or cell.compared.a is None:
        return str(trouble)
    before, now = cell.compared.a.cell, cell.side.cell
    finding, last = cell.compared.finding, cell.compared.a.sweep_id
    if trouble is Trouble.SLOWER and finding.estimate:
        interval = finding.estimate.shown_interval
        return (
            f"Slower by {_percent(finding.estimate.of_medians)} (99 % interval {_percent(interval.low)} to "
            f"{_percent(interval.high)}) than in sweep {last}."
        )
    if trouble is Trouble.ACCURACY:
        return f"Top-1 is {100 * (now.top1 or 0):.1f} %; it was {100 * (before.top1 or 0):.1f} % in sweep {last}."
    if trouble is Trouble.FALLBACK:
        return f"Ran on {now.delegate_achieved}; in sweep {last} it ran on {before.delegate_achieved}."
    if trouble is Trouble.MEMORY:
        return f"Takes more memory than in sweep {last}."
    return f"Not compared with sweep {last}: {finding.why}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"
