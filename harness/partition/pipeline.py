"""Find the pipeline that gives the most results a second."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from operator import add

from harness.partition.placement import PlacedStage, Placement, Table, Unit, shared_cores

_FEW, _MANY = 4, 16
"""How many ways are kept at one place: at first for a bound, then for the answer."""
_ROUNDING = 1 + 1e-9


def fastest_pipeline(
    table: Table, units: Sequence[Unit], stages: int, *, including: Collection[str] = ()
) -> Placement | None:
    """Return the pipeline of this many stages with the shortest interval; None if there is none.

    Neighbours are on different units, and an accelerator holds one stage. `including` names delegates that must take
    part. Dynamic programming over several criteria (Martins, On a multicriteria shortest path problem, European Journal
    of Operational Research 16, 1984): ways through the first pieces that end alike are kept unless another keeps
    everything busy for as short a time, since a core's time may be shared by stages far apart. Exact but for tables so
    large that more than 16 such ways differ at one place. Of equal intervals the lower latency wins.
    """
    search = _Search(table, units, frozenset(including))
    rough = search.best(stages, kept=_FEW, bound_us=inf)
    return rough and (search.best(stages, kept=_MANY, bound_us=rough.interval_us * _ROUNDING) or rough)


@dataclass(frozen=True)
class _Way:
    """Stages of the first pieces."""

    stages: tuple[PlacedStage, ...]
    interval_us: float
    busy_us: tuple[float, ...]
    """What later stages may add to: each unit that may be shared, and each set of cores that several units use."""
    latency_us: float

    def is_no_worse(self, other: _Way) -> bool:
        if self.interval_us > other.interval_us or self.latency_us > other.latency_us:
            return False
        return all(one <= another for one, another in zip(self.busy_us, other.busy_us, strict=True))


_Place = tuple[int, str, frozenset[str]]
"""The first piece that is left, the unit that came last, and all units that were used."""


class _Search:
    def __init__(self, table: Table, units: Sequence[Unit], including: frozenset[str]) -> None:
        self._table, self._units, self._including = table, units, including
        self._shared_units = [unit for unit in units if unit.may_share]
        self._shared_cores = shared_cores(units)
        self._delegates = {unit.name: unit.delegate for unit in units}

    def best(self, stages: int, *, kept: int, bound_us: float) -> Placement | None:
        """Return the best pipeline whose interval is at most the bound."""
        nothing_busy = (0.0,) * (len(self._shared_units) + len(self._shared_cores))
        ways: dict[_Place, list[_Way]] = {(0, "", frozenset()): [_Way((), 0.0, nothing_busy, 0.0)]}
        for left in reversed(range(stages)):
            longer: dict[_Place, list[_Way]] = {}
            for (first, last, used), before in ways.items():
                for stage in self._next_stages(first, last, used, left, bound_us):
                    key = (stage.last + 1, stage.unit.name, used | {stage.unit.name})
                    found = longer.setdefault(key, [])
                    for way in self._with(before, stage, bound_us):
                        _keep(found, way)
                    found.sort(key=lambda way: (way.interval_us, way.latency_us))
                    del found[kept:]
            ways = longer
        whole = [way for place, found in ways.items() if self._includes_all(place[-1]) for way in found]
        return Placement(min(whole, key=lambda way: (way.interval_us, way.latency_us)).stages) if whole else None

    def _next_stages(
        self, first: int, last: str, used: Collection[str], left: int, bound_us: float
    ) -> Iterator[PlacedStage]:
        ends = range(first + 1, self._table.pieces - left + 1) if left else [self._table.pieces]
        for unit in self._units:
            if unit.name == last or (unit.name in used and not unit.may_share) or self._is_like_an_earlier(unit, used):
                continue
            for end in ends:
                if (stage := self._table.stage(unit, first, end)) is None:
                    break
                if stage.predicted_us <= bound_us:
                    yield stage

    def _is_like_an_earlier(self, unit: Unit, used: Collection[str]) -> bool:
        """Return True if an equal core is free too: which of them it is changes nothing."""
        free = [
            other.name
            for other in self._units
            if other.may_share and other.delegate == unit.delegate and not self._touched(other, used)
        ]
        return unit.name in free[1:]

    def _touched(self, unit: Unit, used: Collection[str]) -> bool:
        return any(other.name in used and other.cores == unit.cores for other in self._units)

    def _with(self, before: Sequence[_Way], stage: PlacedStage, bound_us: float) -> Iterator[_Way]:
        more_us = [stage.predicted_us if unit is stage.unit else 0.0 for unit in self._shared_units]
        more_us += [stage.processor_us_inside(cores) / len(cores) for cores in self._shared_cores]
        for way in before:
            busy_us = tuple(map(add, way.busy_us, more_us))
            interval_us = max(way.interval_us, stage.predicted_us, *busy_us)
            if interval_us <= bound_us:
                yield _Way((*way.stages, stage), interval_us, busy_us, way.latency_us + stage.predicted_us)

    def _includes_all(self, used: Collection[str]) -> bool:
        return self._including <= {self._delegates[name] for name in used}


def _keep(ways: list[_Way], new: _Way) -> None:
    """Add a way unless one that is there is no worse, and drop those that are no better than it."""
    if not any(way.is_no_worse(new) for way in ways):
        ways[:] = [way for way in ways if not new.is_no_worse(way)]
        ways.append(new)
