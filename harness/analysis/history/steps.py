"""How cells changed over their nights: stretches of nights that are alike, steps in them, and what they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.history.change_points import FEWEST_NIGHTS, find_level_shifts
from harness.analysis.history.nights import CellName, CellNights, Night
from harness.analysis.ratio import RatioEstimate, estimate_by_mean, estimate_by_rank, smallest_p

SMALLEST_STEP = 0.02
"""Relative difference from which a step matters, as in a comparison."""
LEVEL = 0.01
"""False alarms of a step at a known place, and of the intervals."""


@dataclass(frozen=True, order=True)
class ConditionChange:
    """Something that is not as it was the night before."""

    what: str
    """A condition such as `os` or `mode runs`, or a circumstance such as `variant int8`."""
    before: str
    after: str

    @property
    def parts_nights(self) -> bool:
        """Return True if nights before and after are not alike, so that no number of them may be compared."""
        return self.what.split()[0] not in _CIRCUMSTANCES


_CIRCUMSTANCES = frozenset({"variant", "harness", "host", "labels"})


def changes(before: Night, after: Night) -> tuple[ConditionChange, ...]:
    """Return what changed between two nights of one cell."""
    a = dict(_flat({**before.conditions, **before.circumstances}))
    b = dict(_flat({**after.conditions, **after.circumstances}))
    return tuple(
        ConditionChange(name, _text(a.get(name)), _text(b.get(name)))
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    )


def _flat(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Give each setting of the mode a name of its own."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {key}", item) for key, item in value.items())
        else:
            yield name, value


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value) or "none"


@dataclass(frozen=True)
class Stretch:
    """Nights in a row that are alike, as positions in the good nights of a cell; `end` is the first one after."""

    start: int
    end: int


@dataclass(frozen=True)
class HistoryStep:
    """A latency that stays at another level from one night on."""

    cell: CellName
    at: int
    """The first night of the new level, as a position in the good nights of the cell."""
    sweep_id: str
    """That night's sweep."""
    earliest: str
    latest: str
    """Sweeps between which the step lies in 95 % of the cases."""
    estimate: RatioEstimate
    """The new level over the old one. Since the place was chosen by the data, it is a little too far from 1."""
    causes: tuple[ConditionChange, ...]
    """What is stored to have changed there; empty if nothing is."""
    alike: bool
    """False: nights before and after it are not alike, so that it may be no change of the model's own speed."""

    @property
    def is_slower(self) -> bool:
        """Return True if the new level is slower."""
        return self.estimate.value > 1


@dataclass(frozen=True)
class CellHistory:
    """One cell over its nights, with what was found in them."""

    cell: CellNights
    stretches: Sequence[Stretch]
    steps: Sequence[HistoryStep]
    """In the order of time."""


def find_shifts(cell: CellNights, *, effect: float = SMALLEST_STEP) -> CellHistory:
    """Cut the nights of a cell where they are not alike, and find the steps inside the stretches and between them."""
    stretches = _stretches(cell.good)
    steps: list[HistoryStep] = []
    levels: list[Stretch] = []
    """Nights between two steps or two ends of a stretch."""
    for index, stretch in enumerate(stretches):
        own = _steps_inside(cell, stretch)
        edges = [stretch.start, *(step.at for step in own), stretch.end]
        of_stretch = [Stretch(a, b) for a, b in itertools.pairwise(edges)]
        if index:
            steps += _step_between(cell, levels[-1], of_stretch[0])
        steps += own
        levels += of_stretch
    return CellHistory(cell, stretches, [step for step in steps if _distance(step.estimate) >= effect])


def _distance(estimate: RatioEstimate) -> float:
    return max(estimate.value, 1 / estimate.value) - 1


def _stretches(nights: Sequence[Night]) -> list[Stretch]:
    parted = [
        index
        for index in range(1, len(nights))
        if any(change.parts_nights for change in changes(nights[index - 1], nights[index]))
    ]
    edges = [0, *parted, len(nights)] if nights else []
    return [Stretch(a, b) for a, b in itertools.pairwise(edges)]


def _steps_inside(cell: CellNights, stretch: Stretch) -> list[HistoryStep]:
    nights = cell.good[stretch.start : stretch.end]
    values = [night.middle_us for night in nights]
    found = find_level_shifts(values)
    edges = [0, *(step.at for step in found), len(values)]
    steps = []
    for index, step in enumerate(found):
        estimate = _estimate(values[edges[index] : step.at], values[step.at : edges[index + 2]])
        around = range(max(step.earliest, 1), step.latest + 1)
        causes = [change for place in around for change in changes(nights[place - 1], nights[place])]
        steps.append(
            HistoryStep(
                cell.name,
                stretch.start + step.at,
                nights[step.at].sweep_id,
                nights[step.earliest].sweep_id,
                nights[step.latest].sweep_id,
                estimate,
                tuple(dict.fromkeys(causes)),
                alike=True,
            )
        )
    return steps


def _step_between(cell: CellNights, before: Stretch, after: Stretch) -> list[HistoryStep]:
    """Return the step where nights stop being alike, if there is one. Its place is known: one comparison decides."""
    if min(before.end - before.start, after.end - after.start) < FEWEST_NIGHTS:
        return []
    nights = cell.good
    values = [night.middle_us for night in nights]
    estimate = _estimate(values[before.start : before.end], values[after.start : after.end])
    if estimate.p_value > LEVEL:
        return []
    sweep_id = nights[after.start].sweep_id
    causes = changes(nights[after.start - 1], nights[after.start])
    return [HistoryStep(cell.name, after.start, sweep_id, sweep_id, sweep_id, estimate, causes, alike=False)]


def _estimate(before: Sequence[float], after: Sequence[float]) -> RatioEstimate:
    by_rank = smallest_p(len(before), len(after), paired=False) <= LEVEL
    method = estimate_by_rank if by_rank else estimate_by_mean
    return method(before, after, paired=False, level=LEVEL)


@dataclass(frozen=True)
class CommonCause:
    """Steps that one change may explain; without a change, steps of one device at the same time."""

    change: ConditionChange | None
    steps: Sequence[HistoryStep]


def group_by_cause(steps: Iterable[HistoryStep]) -> list[CommonCause]:
    """Group steps of many cells so that few causes explain all; the cause of the most steps comes first.

    Each step counts for one cause: of several, for the one that explains the most steps.
    """
    open_steps = list(steps)
    groups: list[CommonCause] = []
    while candidates := _by_change(open_steps):
        change, explained = max(candidates.items(), key=lambda item: len(item[1]))
        groups.append(CommonCause(change, explained))
        open_steps = [step for step in open_steps if change not in step.causes]
    return groups + sorted(_at_the_same_time(open_steps), key=lambda group: -len(group.steps))


def _by_change(steps: Iterable[HistoryStep]) -> dict[ConditionChange, list[HistoryStep]]:
    found: dict[ConditionChange, list[HistoryStep]] = {}
    for step in steps:
        for change in step.causes:
            found.setdefault(change, []).append(step)
    return found


def _at_the_same_time(steps: Sequence[HistoryStep]) -> list[CommonCause]:
    """Group steps of one device whose places overlap; ids of sweeps sort by time."""
    groups: list[list[HistoryStep]] = []
    for step in sorted(steps, key=lambda step: (step.cell.serial, step.earliest)):
        last = groups[-1] if groups else []
        if last and last[0].cell.serial == step.cell.serial and step.earliest <= max(other.latest for other in last):
            last.append(step)
        else:
            groups.append([step])
    return [CommonCause(None, group) for group in groups]
