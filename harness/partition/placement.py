"""Put pieces of a model on units of a phone: the lowest latency, and the highest throughput.

Pieces are consecutive. A stage is a run of pieces on one unit; its time is the sum of its pieces' there, and whatever
crosses into it is paid once more. Both optima are found by dynamic programming over the measured table, exactly; they
are predictions, since pieces that run together may be faster than apart, and units may get in each other's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """Something that runs one stage at a time."""

    name: str
    """Such as `gpu`, or `cpu@4` for the CPU's fifth core."""
    delegate: str
    core_mask: str | None
    """Cores that its process is pinned to, hexadecimal; None: not pinned."""


@dataclass(frozen=True)
class PlacedStage:
    """A run of pieces on one unit."""

    unit: Unit
    first: int
    last: int
    """Numbers of pieces, from 0, both in the stage."""
    predicted_us: float
    """With what crosses into it."""


@dataclass(frozen=True)
class Placement:
    """Stages in order; the units of a pipeline differ, so that all can work at the same time."""

    stages: tuple[PlacedStage, ...]

    @property
    def latency_us(self) -> float:
        """Predicted time of one inference through all stages."""
        return sum(stage.predicted_us for stage in self.stages)

    @property
    def interval_us(self) -> float:
        """Predicted time between two results of a full pipeline: that of its slowest stage."""
        return max(stage.predicted_us for stage in self.stages)


class Table:
    """Measured times: one row a piece, one column a delegate, and what crossing costs before each piece."""

    def __init__(self, times_us: Mapping[str, Sequence[float | None]], crossing_us: Sequence[float]) -> None:
        """`times_us` holds each delegate's time for each piece, None where it does not run or is wrong there.

        `crossing_us` is the cost of bringing into each piece what earlier ones computed; 0 for the first.
        """
        self.pieces = len(crossing_us)
        self._times_us = {delegate: tuple(times) for delegate, times in times_us.items()}
        self._crossing_us = tuple(crossing_us)

    def stage(self, unit: Unit, first: int, end: int) -> PlacedStage | None:
        """Return the pieces `first` to before `end` as a stage on a unit; None where one of them cannot run there."""
        times_us = self._times_us[unit.delegate][first:end]
        if None in times_us:
            return None
        total_us = self._crossing_us[first] + sum(time for time in times_us if time is not None)
        return PlacedStage(unit, first, end - 1, total_us)


def fastest_chain(table: Table, units: Sequence[Unit]) -> Placement | None:
    """Return the placement with the lowest latency, one stage after the other; None where no unit runs some piece.

    A unit may hold several stages. `best[end]` is the fastest way through the pieces before `end`.
    """
    best: list[Placement | None] = [Placement(())]
    for end in range(1, table.pieces + 1):
        ways = [
            Placement((*before.stages, stage))
            for first, before in enumerate(best)
            if before is not None
            for unit in units
            if (stage := table.stage(unit, first, end))
        ]
        best.append(min(ways, key=lambda way: (way.latency_us, len(way.stages)), default=None))
    return best[-1]


def fastest_pipeline(table: Table, units: Sequence[Unit], stages: int) -> Placement | None:
    """Return the pipeline of so many stages with the shortest interval, each on a unit of its own; None: there is none.

    `best[used][end]` is the best way through the pieces before `end` on the units whose bits are set in `used`. Of
    equal intervals the lower latency wins.
    """
    best: dict[tuple[int, int], Placement] = {(0, 0): Placement(())}
    for _ in range(stages):
        longer: dict[tuple[int, int], Placement] = {}
        for (used, first), before in best.items():
            for number, unit in enumerate(units):
                if used >> number & 1:
                    continue
                for end in range(first + 1, table.pieces + 1):
                    if (stage := table.stage(unit, first, end)) is None:
                        break
                    key, way = (used | 1 << number, end), Placement((*before.stages, stage))
                    if key not in longer or _rank(way) < _rank(longer[key]):
                        longer[key] = way
        best = longer
    whole = [way for (_, end), way in best.items() if end == table.pieces]
    return min(whole, key=_rank, default=None)


def _rank(placement: Placement) -> tuple[float, float]:
    return placement.interval_us, placement.latency_us
