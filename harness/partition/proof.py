"""Predict what placements of a model give, run them, and set both beside the whole model and copies of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.benchmark.measurement import Invocation
from harness.benchmark.tool import Tool
from harness.compression.variant import Variant
from harness.devices.base import Device
from harness.errors import Failure
from harness.partition.graph import Graph
from harness.partition.measure import MeasuredPieces, crossing_us
from harness.partition.partition import Partition, partition
from harness.partition.placement import Placement, Table, Unit, fastest_chain, fastest_pipeline
from harness.partition.together import Worker, run_together

_US_PER_S = 1e6


@dataclass(frozen=True)
class Outcome:
    """One way to run the model. Times in microseconds; None where nothing was predicted, or nothing ran."""

    way: str
    """`whole`, `copies`, `chain` or `pipeline`."""
    units: tuple[str, ...]
    predicted_latency_us: float | None
    measured_latency_us: float | None
    """Of one inference, its stages alone on the phone one after the other, with what crosses."""
    predicted_per_s: float | None
    measured_per_s: float | None
    """Results a second: of `whole` and `chain` one after the other, else with every process at work at once."""
    contention: float | None = None
    """How many times as long as alone the slowest process took beside the others."""
    failure: Failure | None = None

    @property
    def prediction_error(self) -> float | None:
        """Relative difference of the measured rate from the predicted one: -0.1 is 10 % fewer results."""
        if not (self.predicted_per_s and self.measured_per_s):
            return None
        return self.measured_per_s / self.predicted_per_s - 1


class Prover:
    """Runs ways on one device. `reach` opens it anew for each process that runs at the same time."""

    def __init__(
        self, made: Partition, graph: Graph, measured: MeasuredPieces, reach: Callable[[], Device], tool: Tool,
        units: Sequence[Unit], folder: Path, *, seconds: float,
    ) -> None:  # fmt: skip
        self._made, self._graph, self._measured = made, graph, measured
        self._reach, self._tool, self._units = reach, tool, tuple(units)
        self._folder, self._seconds = folder, seconds
        device = reach()
        self.crossing_us = tuple(crossing_us(device, stage.taken_bytes) for stage in made.stages)
        self.table = Table(measured.pieces_us, self.crossing_us)

    def whole(self, unit: Unit) -> Outcome:
        """Run the model in one piece on one unit."""
        latency_us = self._measured.whole_us[unit.delegate]
        (alone,) = self._together([self._worker(self._made.whole, unit)])
        found_us = _latency_us(alone)
        return Outcome(
            "whole", (unit.name,), latency_us, found_us, _rate(latency_us), _rate(found_us), failure=alone.failure
        )

    def copies(self, units: Sequence[Unit]) -> Outcome:
        """Run one copy of the model on each unit, each with an input of its own (data parallelism)."""
        alone_us = [self._measured.whole_us[unit.delegate] for unit in units]
        runs = self._together([self._worker(self._made.whole, unit) for unit in units])
        found_us = [_latency_us(run) for run in runs]
        return Outcome(
            "copies",
            tuple(unit.name for unit in units),
            max((us for us in alone_us if us), default=None) if None not in alone_us else None,
            max((us for us in found_us if us), default=None),
            sum(_US_PER_S / us for us in alone_us if us) if None not in alone_us else None,
            sum(_US_PER_S / us for us in found_us if us) if None not in found_us else None,
            contention=_contention(alone_us, found_us),
            failure=next((run.failure for run in runs if run.failure), None),
        )

    def chain(self) -> Outcome | None:
        """Run the placement with the lowest predicted latency; None where one stage is the fastest."""
        placement = fastest_chain(self.table, self._units)
        if placement is None or len(placement.stages) < 2:  # noqa: PLR2004 - one stage is the whole
            return None
        workers = self._stage_workers(placement)
        found_us = self._alone_us(placement, workers)
        return Outcome(
            "chain", _names(placement), placement.latency_us, found_us, _rate(placement.latency_us), _rate(found_us)
        )

    def pipeline(self, stages: int) -> Outcome | None:
        """Run the pipeline of so many stages with the highest predicted rate; None where there is none."""
        placement = fastest_pipeline(self.table, self._units, stages)
        if placement is None:
            return None
        workers = self._stage_workers(placement)
        alone_us = [_latency_us(self._together([worker])[0]) for worker in workers]
        runs = self._together(workers)
        found_us = [_latency_us(run) for run in runs]
        crossing = [self.crossing_us[stage.first] for stage in placement.stages]
        with_crossing = [us + more for us, more in zip(found_us, crossing, strict=True) if us]
        complete = len(with_crossing) == len(workers)
        return Outcome(
            "pipeline",
            _names(placement),
            placement.latency_us,
            sum(us for us in alone_us if us) + sum(crossing) if None not in alone_us else None,
            _rate(placement.interval_us),
            _rate(max(with_crossing)) if complete else None,
            contention=_contention(alone_us, found_us),
            failure=next((run.failure for run in runs if run.failure), None),
        )

    def _alone_us(self, placement: Placement, workers: Sequence[Worker]) -> float | None:
        found = [_latency_us(self._together([worker])[0]) for worker in workers]
        crossing = sum(self.crossing_us[stage.first] for stage in placement.stages)
        return sum(us for us in found if us) + crossing if None not in found else None

    def _stage_workers(self, placement: Placement) -> list[Worker]:
        """Cut the model again where the placement changes the unit: pieces of one stage become one file."""
        cuts = [self._made.cuts[stage.first - 1] for stage in placement.stages[1:]]
        folder = self._folder / f"{len(cuts) + 1}-stages-{'-'.join(map(str, cuts))}"
        stages = (
            [stage.variant for stage in partition(self._made.whole, self._graph, cuts, folder).stages]
            if cuts else [self._made.whole]
        )  # fmt: skip
        return [self._worker(variant, placed.unit) for variant, placed in zip(stages, placement.stages, strict=True)]

    def _worker(self, variant: Variant, unit: Unit) -> Worker:
        return Worker(variant, unit, self._measured.start_us[unit.delegate])

    def _together(self, workers: Sequence[Worker]) -> list[Invocation]:
        return run_together(workers, self._reach, self._tool, seconds=self._seconds)


def _names(placement: Placement) -> tuple[str, ...]:
    return tuple(stage.unit.name for stage in placement.stages)


def _latency_us(invocation: Invocation) -> float | None:
    """Return the mean of all runs: what decides how many results there are, unlike the median."""
    return invocation.measurement.latency_avg_us if invocation.measurement and not invocation.failure else None


def _rate(interval_us: float | None) -> float | None:
    return _US_PER_S / interval_us if interval_us else None


def _contention(alone_us: Sequence[float | None], together_us: Sequence[float | None]) -> float | None:
    ratios = [both / one for one, both in zip(alone_us, together_us, strict=True) if one and both]
    return max(ratios, default=None)
