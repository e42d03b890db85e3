"""Put pieces of a model on units of a phone, and predict from measured costs what that gives.

Pieces are consecutive. A stage is a run of pieces on one unit; its time is the sum of its pieces' there, less what
their seams cost, and whatever crosses into it is paid once more.

What a pipeline gives at most follows from the utilization law (Denning & Buzen, The Operational Analysis of Queueing
Network Models, Computing Surveys 10 (3), 1978): nothing is busy for more than all of the time. A unit is busy for the
time of its stages, and a set of cores for the processor time of all stages that can run nowhere else, so that an
accelerator whose work is done by the CPU's cores is no unit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

US_PER_S = 1e6


@dataclass(frozen=True)
class Unit:
    """Something that runs stages, one at a time."""

    name: str
    """Such as `gpu`, or `cpu@4` for the CPU's fifth core."""
    delegate: str
    core_mask: str | None
    """Cores that its process is pinned to, hexadecimal; None: not pinned."""
    cores: tuple[int, ...]
    """Where its process may run: an accelerator's driver needs them too."""
    may_share: bool = False
    """True if a pipeline may put several stages on it, whose processes take turns."""


@dataclass(frozen=True)
class Cost:
    """What running something once takes, microseconds."""

    time_us: float
    processor_us: float
    """Of all threads of its process together: more than the elapsed time if several cores work, less if they wait."""


@dataclass(frozen=True)
class PlacedStage:
    """A run of pieces on one unit."""

    unit: Unit
    first: int
    last: int
    """Numbers of pieces, from 0, both in the stage."""
    predicted_us: float
    """With what crosses into it."""
    processor_us: float
    """As above."""

    def processor_us_inside(self, cores: Sequence[int]) -> float:
        """Return the processor time that only these cores can give it."""
        return self.processor_us if set(self.unit.cores) <= set(cores) else 0.0


@dataclass(frozen=True)
class Placement:
    """Stages in order. In a pipeline all are at work at the same time."""

    stages: tuple[PlacedStage, ...]

    @property
    def latency_us(self) -> float:
        """Predicted time of one inference through all stages, while no other is under way."""
        return sum(stage.predicted_us for stage in self.stages)

    @property
    def interval_us(self) -> float:
        """Predicted time between two results of a full pipeline: that of what is busy for the longest."""
        return max(self.busy_us.values(), default=0.0)

    @property
    def limit(self) -> str:
        """Say what is busy for the longest for each result: a unit, or some cores."""
        return max(self.busy_us, key=lambda name: self.busy_us[name])

    @cached_property
    def busy_us(self) -> dict[str, float]:
        """How long each unit, and each core of a set that several units use, is busy for one result."""
        units = dict.fromkeys(stage.unit for stage in self.stages)
        busy = {unit.name: sum(stage.predicted_us for stage in self.stages if stage.unit == unit) for unit in units}
        for cores in shared_cores(list(units)):
            busy[core_names(cores)] = sum(stage.processor_us_inside(cores) for stage in self.stages) / len(cores)
        return busy


def shared_cores(units: Sequence[Unit]) -> list[tuple[int, ...]]:
    """Return the sets of cores outside which two or more of the units cannot run.

    To look at them one by one is exact where any two of them have no core in common or one holds the other.
    """
    sets = dict.fromkeys(unit.cores for unit in units if unit.cores)
    return [cores for cores in sets if sum(set(unit.cores) <= set(cores) for unit in units) > 1]


def utilization(costs: Mapping[Unit, Cost], rates_per_s: Mapping[Unit, float]) -> float:
    """Return for which share of the time the busiest unit, or set of cores that several units use, was at work.

    `costs` are of one result on each unit, as measured alone; `rates_per_s` what came while all were at work at once.
    """
    of_units = [rates_per_s[unit] * cost.time_us for unit, cost in costs.items()]
    of_cores = [
        sum(rates_per_s[unit] * cost.processor_us for unit, cost in costs.items() if set(unit.cores) <= set(cores))
        / len(cores)
        for cores in shared_cores(list(costs))
    ]
    return max(*of_units, *of_cores, 0.0) / US_PER_S


def core_names(cores: Sequence[int]) -> str:
    """Return what a person calls these cores."""
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(map(str, cores))}"


class Table:
    """Measured costs: one row per piece, one column per delegate, and what crossing takes before each piece."""

    def __init__(
        self,
        costs: Mapping[str, Sequence[Cost | None]],
        crossing_us: Sequence[float],
        whole: Mapping[str, Cost | None] | None = None,
    ) -> None:
        """`costs` holds each delegate's cost of each piece, None if it does not run or is wrong there.

        `crossing_us` is what bringing into each piece takes that earlier ones computed; 0 for the first. `whole` has
        the cost of all pieces in one file, which tells what a seam between two pieces costs where it is left out.
        """
        self.pieces = len(crossing_us)
        self._costs = {delegate: tuple(of_pieces) for delegate, of_pieces in costs.items()}
        self._crossing_us = tuple(crossing_us)
        self._seams = {delegate: self._seam(delegate, (whole or {}).get(delegate)) for delegate in costs}

    def stage(self, unit: Unit, first: int, end: int) -> PlacedStage | None:
        """Return the pieces `first` to before `end` as a stage on a unit; None if one of them cannot run there."""
        costs = [cost for cost in self._costs[unit.delegate][first:end] if cost]
        if len(costs) < end - first:
            return None
        seam, seams = self._seams[unit.delegate], len(costs) - 1
        time_us = _without_seams([cost.time_us for cost in costs], seam.time_us * seams)
        processor_us = _without_seams([cost.processor_us for cost in costs], seam.processor_us * seams)
        crossing_us = self._crossing_us[first]  # copying keeps a core busy as long as it takes
        return PlacedStage(unit, first, end - 1, time_us + crossing_us, processor_us + crossing_us)

    def _seam(self, delegate: str, whole: Cost | None) -> Cost:
        """Return what each seam costs: by how much all pieces take longer one by one than in one file."""
        costs = [cost for cost in self._costs[delegate] if cost]
        seams = self.pieces - 1
        if whole is None or not seams or len(costs) < self.pieces:
            return Cost(0.0, 0.0)
        return Cost(
            (sum(cost.time_us for cost in costs) - whole.time_us) / seams,
            (sum(cost.processor_us for cost in costs) - whole.processor_us) / seams,
        )


def _without_seams(pieces_us: Sequence[float], seams_us: float) -> float:
    return max(sum(pieces_us) - seams_us, *pieces_us)


def fastest_chain(table: Table, units: Sequence[Unit]) -> Placement | None:
    """Return the placement with the lowest latency, one stage after the other; None if no unit runs some piece.

    A unit may hold several stages, but no neighbours: those would be one stage. `best[end, unit]` is the fastest way
    through the pieces before `end` whose last stage is on that unit.
    """
    best: dict[tuple[int, Unit | None], Placement] = {(0, None): Placement(())}
    for end in range(1, table.pieces + 1):
        for unit in units:
            ways = [
                Placement((*before.stages, stage))
                for (first, last), before in best.items()
                if first < end and last != unit and (stage := table.stage(unit, first, end))
            ]
            if ways:
                best[end, unit] = min(ways, key=_latency_and_stages)
    whole = [way for (end, _), way in best.items() if end == table.pieces]
    return min(whole, key=_latency_and_stages, default=None)


def _latency_and_stages(way: Placement) -> tuple[float, int]:
    return way.latency_us, len(way.stages)
