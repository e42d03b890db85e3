"""Predict what placements of a model give, run them, and set both next to the whole model and copies of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.benchmark.delegates import find_delegate
from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.program import Feature, can, push_tool
from harness.benchmark.tool import Tool
from harness.devices.device import Device
from harness.errors import Failure
from harness.partition.costs import MeasuredPieces, crossing_us
from harness.partition.graph import Graph
from harness.partition.partition import Partition, partition
from harness.partition.pipeline import fastest_pipeline
from harness.partition.placement import US_PER_S, Placement, Unit, fastest_chain, shared_cores, utilization
from harness.tflite.variant import Variant


@dataclass(frozen=True)
class Outcome:
    """One way to run the model. Times in microseconds; None if nothing was predicted, or nothing ran."""

    way: str
    """`whole`, `partial` (one process whose delegate took a part of the model), `copies`, `chain` or `pipeline`."""
    units: tuple[str, ...]
    """One for each process, in the order of stages; a unit that stands there twice is shared."""
    predicted_latency_us: float | None
    measured_latency_us: float | None
    """Of one inference: its stages alone on the phone one after another, with what crosses; of copies, next to the
    others."""
    predicted_per_s: float | None
    measured_per_s: float | None
    """Results a second: of `whole` and `chain` one after another, else with every process at work at once."""
    contention: float | None = None
    """How many times as long as alone the slowest process took next to the others, each running as fast as it can."""
    limit: str | None = None
    """What is busy for the longest by the prediction."""
    failure: Failure | None = None

    @property
    def prediction_error(self) -> float | None:
        """Relative difference of the measured rate from the predicted one: -0.1 is 10 % fewer results."""
        return _difference(self.measured_per_s, self.predicted_per_s)

    @property
    def latency_error(self) -> float | None:
        """The same of the latency: 0.1 is 10 % slower than predicted."""
        return _difference(self.measured_latency_us, self.predicted_latency_us)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and both errors."""
        return asdict(self) | {"prediction_error": self.prediction_error, "latency_error": self.latency_error}


class Prover:
    """Runs ways on one device. `reach` opens it again for each process that runs at the same time."""

    def __init__(
        self,
        made: Partition,
        graph: Graph,
        measured: MeasuredPieces,
        reach: Callable[[], Device],
        tool: Tool,
        units: Sequence[Unit],
        folder: Path,
        *,
        seconds: float,
    ) -> None:
        self._made, self._graph, self._measured = made, graph, measured
        self._reach, self._tool, self._units = reach, tool, tuple(units)
        self._folder, self._seconds = folder, seconds
        device = reach()
        self.crossing_us = tuple(crossing_us(device, stage.taken_bytes) for stage in made.stages)
        self.table = measured.table(self.crossing_us)
        self._slowdown = {1: 1.0}
        self._losses: dict[frozenset[Unit], float] = {}
        self._alone: dict[Unit, Invocation] = {}
        self._proved: set[Placement] = set()

    def whole(self, unit: Unit) -> Outcome:
        """Run the model in one piece on one unit."""
        latency_us = self._measured.whole_us[unit.delegate]
        alone = self._whole_alone(unit)
        found_us = _latency_us(alone)
        way, name = _taken(alone, unit)
        return Outcome(
            way,
            (name,),
            latency_us,
            found_us,
            _rate(latency_us),
            _rate(found_us),
            failure=alone.failure or self._measured.wrong.get(unit.delegate),
        )

    def copies(self, units: Sequence[Unit]) -> Outcome:
        """Run one copy of the model on each unit, each with an input of its own (data parallelism).

        The slowdown against one copy alone is taken as what any processes on this many cores cost each other through
        memory, heat and whatever else they share apart from a core's time.
        """
        predicted_us = [self._measured.whole_us[unit.delegate] for unit in units]
        workers = [self._worker(self._made.whole, unit) for unit in units]
        alone_us = [_latency_us(self._whole_alone(unit)) for unit in units]
        runs = self._together(workers)
        found_us = [_latency_us(run) for run in runs]
        alone_rate, together_rate = _total_rate(alone_us), _total_rate(found_us)
        if alone_rate and together_rate:
            self._slowdown[len(units)] = max(1.0, alone_rate / together_rate)
        return Outcome(
            "copies",
            tuple(unit.name for unit in units),
            _slowest(predicted_us),
            _slowest(found_us),
            _total_rate(predicted_us),
            together_rate,
            contention=_contention(alone_us, found_us),
            failure=next((run.failure for run in runs if run.failure), None),
        )

    def chain(self) -> Outcome | None:
        """Run the placement with the lowest predicted latency; None if one stage is the fastest."""
        one_of_each = {unit.delegate: unit for unit in reversed(self._units)}  # cores of one kind are alike
        placement = fastest_chain(self.table, list(one_of_each.values()))
        if placement is None or len(placement.stages) < 2:  # noqa: PLR2004 - one stage is the whole
            return None
        runs = [self._together([worker])[0] for worker in self._stage_workers(placement)]
        found_us = self._with_crossing(placement, runs)
        latency_us = sum(us for us in found_us if us) if None not in found_us else None
        return Outcome(
            "chain",
            _names(placement),
            placement.latency_us,
            latency_us,
            _rate(placement.latency_us),
            _rate(latency_us),
            failure=next((run.failure for run in runs if run.failure), None),
        )

    def pipeline(self, stages: int, *, including: Collection[str] = ()) -> Outcome | None:
        """Run the pipeline of this many stages with the highest predicted rate; None if that is none, or not new.

        `including` names delegates that must take part, whether that pays or not.
        """
        placement = fastest_pipeline(self.table, self._units, stages, including=including)
        if placement is None or placement in self._proved:
            return None
        self._proved.add(placement)
        workers = self._stage_workers(placement)
        alone = [self._together([worker])[0] for worker in workers]
        alone_us = self._with_crossing(placement, alone)
        runs = self._together(workers)
        found_us = self._with_crossing(placement, runs)
        failure = next((run.failure for run in (*alone, *runs) if run.failure), None)
        return Outcome(
            "pipeline",
            _names(placement),
            placement.latency_us,
            sum(us for us in alone_us if us) if None not in alone_us else None,
            _rate(placement.interval_us * self._expected_slowdown(placement)),
            None if failure else self._rate_of_pipeline(placement, workers, alone_us, found_us),
            contention=_contention(list(map(_latency_us, alone)), list(map(_latency_us, runs))),
            limit=placement.limit,
            failure=failure,
        )

    def _whole_alone(self, unit: Unit) -> Invocation:
        if unit not in self._alone:
            (self._alone[unit],) = self._together([self._worker(self._made.whole, unit)])
        return self._alone[unit]

    def _rate_of_pipeline(
        self,
        placement: Placement,
        workers: Sequence[Worker],
        alone_us: Sequence[float | None],
        together_us: Sequence[float | None],
    ) -> float | None:
        """Return the results a second that all stages reach at the same time, given what each took."""
        reached, bound = _rate(_slowest(together_us)), _rate(_slowest(alone_us))
        if reached is None or bound is None or not self._share_cores(placement):
            return reached

        def attempt(per_s: float) -> float:
            found_us = self._with_crossing(placement, self._together(workers, runs_per_s=per_s))
            return min(per_s, _rate(_slowest(found_us)) or 0.0)

        return best_rate(reached, bound, attempt)

    def _share_cores(self, placement: Placement) -> bool:
        units = dict.fromkeys(stage.unit for stage in placement.stages)
        shares = len(units) < len(placement.stages) or bool(shared_cores(list(units)))
        return shares and can(self._tool, Feature.RUN_FREQUENCY)

    def _expected_slowdown(self, placement: Placement) -> float:
        """Return how much slower processes at work at once were seen to be, for as many units or the most tried."""
        units = list(dict.fromkeys(stage.unit for stage in placement.stages))
        tried = self._slowdown[max(count for count in self._slowdown if count <= len(units))]
        if not shared_cores(units):
            return tried
        if (used := frozenset(units)) not in self._losses:  # pipelines of more stages may use the same
            self._losses[used] = self._loss_on(units)
        return max(tried, self._losses[used])

    def _loss_on(self, units: Sequence[Unit]) -> float:
        """Run the whole model on units that share cores, all at once, and see how far that stays below the law.

        What processes that take turns on cores lose to one another is no processor time of theirs: it has to be seen.
        Where the whole does not run on each of them, nothing is known: 1.
        """
        costs = {unit: cost for unit in units if (cost := self._measured.whole_costs[unit.delegate])}
        runs = self._together([self._worker(self._made.whole, unit) for unit in costs]) if costs else []
        rates = {unit: rate for unit, run in zip(costs, runs, strict=True) if (rate := _rate(_latency_us(run)))}
        return max(1.0, 1 / utilization(costs, rates)) if len(rates) == len(units) else 1.0

    def _stage_workers(self, placement: Placement) -> list[Worker]:
        """Cut the model again if the placement changes the unit: pieces of one stage become one file."""
        cuts = [self._made.cuts[stage.first - 1] for stage in placement.stages[1:]]
        folder = self._folder / f"{len(cuts) + 1}-stages-{'-'.join(map(str, cuts))}"
        stages = partition(self._made.whole, self._graph, cuts, folder).stages
        return [
            self._worker(stage.variant, placed.unit) for stage, placed in zip(stages, placement.stages, strict=True)
        ]

    def _worker(self, variant: Variant, unit: Unit) -> Worker:
        return Worker(variant, unit, self._measured.start_us[unit.delegate])

    def _together(self, workers: Sequence[Worker], *, runs_per_s: float | None = None) -> list[Invocation]:
        return run_together(workers, self._reach, self._tool, seconds=self._seconds, runs_per_s=runs_per_s)

    def _with_crossing(self, placement: Placement, runs: Sequence[Invocation]) -> list[float | None]:
        """Return what each stage took, with what crosses into it."""
        crossing = [self.crossing_us[stage.first] for stage in placement.stages]
        return [us and us + more for us, more in zip(map(_latency_us, runs), crossing, strict=True)]


def _taken(run: Invocation, unit: Unit) -> tuple[str, str]:
    """Return which way one process went, and where: an accelerator may have left a part, or all, to the CPU."""
    delegation = run.measurement.delegation if run.measurement else None
    if delegation is None or not delegation.fell_back or find_delegate(unit.delegate).is_cpu:
        return "whole", unit.name
    if delegation.total_nodes is None:
        return "partial", f"{unit.name} in part"
    return "partial", f"{unit.name} with {delegation.delegated_nodes} of {delegation.total_nodes} nodes"


def _names(placement: Placement) -> tuple[str, ...]:
    return tuple(stage.unit.name for stage in placement.stages)


def _latency_us(invocation: Invocation) -> float | None:
    """Return the mean of all runs: what decides how many results there are, unlike the median."""
    return invocation.measurement.latency_avg_us if invocation.measurement and not invocation.failure else None


def _slowest(times_us: Sequence[float | None]) -> float | None:
    """Return the longest time; None if one is missing."""
    return None if None in times_us else max(us for us in times_us if us is not None)


def _rate(interval_us: float | None) -> float | None:
    return US_PER_S / interval_us if interval_us else None


def _total_rate(intervals_us: Sequence[float | None]) -> float | None:
    return None if None in intervals_us else sum(US_PER_S / us for us in intervals_us if us)


def _difference(measured: float | None, predicted: float | None) -> float | None:
    return measured / predicted - 1 if measured and predicted else None


def _contention(alone_us: Sequence[float | None], together_us: Sequence[float | None]) -> float | None:
    ratios = [both / one for one, both in zip(alone_us, together_us, strict=True) if one and both]
    return max(ratios, default=None)


_US_PER_S = 1e6
_SPARE_S = 60.0


@dataclass(frozen=True)
class Worker:
    """A file and the unit that is to run it."""

    variant: Variant
    unit: Unit
    start_us: float
    """How long it takes until its timed runs begin, as measured before: all are to begin at once."""


def run_together(
    workers: Sequence[Worker],
    reach: Callable[[], Device],
    tool: Tool,
    *,
    seconds: float,
    runs_per_s: float | None = None,
) -> list[Invocation]:
    """Run all workers for this many seconds at the same time; return what each measured, in their order.

    With `runs_per_s` each worker begins this many runs per second, as if a pipeline fed it; without, it runs without
    pauses.

    `reach` opens the device once per worker because one connection serves one process at a time. Slow starters start
    first, so that the timed parts overlap except for some tenths of a second.
    """
    device = reach()
    tool_path = push_tool(device, tool)
    requests = [_request(device.push(worker.variant.path), worker.unit, seconds, runs_per_s) for worker in workers]
    slowest_us = max(worker.start_us for worker in workers)
    devices = [reach() for _ in workers]

    def run(worker: Worker, request: InvocationRequest, own: Device) -> Invocation:
        threading.Event().wait((slowest_us - worker.start_us) / _US_PER_S)
        return invoke(
            own,
            tool,
            tool_path,
            request,
            timeout_s=seconds + _SPARE_S + slowest_us / _US_PER_S,
            core_mask=worker.unit.core_mask,
        )

    with ThreadPoolExecutor(len(workers), thread_name_prefix="stage") as pool:
        return list(pool.map(run, workers, requests, devices))


def _request(path: str, unit: Unit, seconds: float, runs_per_s: float | None) -> InvocationRequest:
    return InvocationRequest(
        path,
        unit.delegate,
        purpose=Pass.SUSTAINED,
        runs=1,
        min_s=seconds,
        max_s=seconds + _SPARE_S,
        warmup_min_s=0.1,
        runs_per_s=runs_per_s,
    )


_CLOSE = 1.05
"""Bounds so near to each other end the search."""
_KEPT_UP = 0.98
"""A rate that is reached to this share was kept up with; more would be."""
_MOST_TRIES = 4


def best_rate(reached: float, bound: float, attempt: Callable[[float], float]) -> float:
    """Return the highest rate that was seen to be reached, halving what lies between it and a bound.

    `reached` is the rate of the slowest stage while each runs as fast as it can: on shared cores the fast ones then
    take time from it that a pipeline, where they wait for it, would leave to it. `bound` is no stage's to exceed.
    `attempt` offers a rate to all stages and returns what the slowest reached. As servers are measured under load
    (Reddi et al., MLPerf Inference Benchmark, ISCA 2020).
    """
    for _ in range(_MOST_TRIES):
        if bound <= reached * _CLOSE:
            break
        offered = (reached + bound) / 2
        found = attempt(offered)
        if found < offered * _KEPT_UP:
            bound = offered
        reached = max(reached, found)
    return reached
