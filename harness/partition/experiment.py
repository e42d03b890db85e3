"""Measure the pieces of a model on a device, place them, and prove the placements there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.benchmark.delegates import find_delegate
from harness.benchmark.registry import ToolRegistry
from harness.devices.adb.discovery import reopen
from harness.devices.cores import MeasuredCores, as_mask, choose_measured_cores
from harness.devices.device import Device, DeviceKind
from harness.devices.host import HostDevice
from harness.devices.profiles import match_profile
from harness.partition.costs import MeasuredPieces, measure_pieces
from harness.partition.graph import Graph
from harness.partition.partition import Partition
from harness.partition.placement import Unit
from harness.partition.trial import Outcome, Prover
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.store import Store
from harness.sweep.targets import opened

_MOST_CPU_UNITS = 4
"""More cores make more pipelines to look at than anyone would run."""


@dataclass(frozen=True)
class Experiment:
    """All that was found on one device."""

    serial: str
    device: str
    units: tuple[Unit, ...]
    measured: MeasuredPieces
    crossing_us: tuple[float, ...]
    outcomes: tuple[Outcome, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self) | {"outcomes": [outcome.as_dict() for outcome in self.outcomes]}


def experiment(
    made: Partition,
    graph: Graph,
    spec: SweepSpec,
    name: str,
    *,
    stages: int,
    seconds: float,
    folder: Path,
    store: Store,
    observer: Observer,
) -> Experiment:
    """Sweep whole and pieces on the device called `name`, then run every way for this many seconds.

    Pipelines of two up to `stages` stages are tried. Raises `DeviceError` when the device cannot be used.
    """
    registry = ToolRegistry()
    with opened(name, registry) as device:
        pieces = [stage.variant for stage in made.stages]
        cores = choose_measured_cores(device, match_profile(device.facts()).cores)
        measured = measure_pieces(
            made.whole, pieces, spec, device, core_mask=cores.mask, store=store, registry=registry, observer=observer
        )
        units = units_of(cores, list(measured.pieces_us))
        tool = registry.choose(device.facts())
        prover = Prover(made, graph, measured, _reach(device), tool, units, folder, seconds=seconds)
        outcomes = []
        ways = list(_ways(prover, units, measured, stages))
        observer.begin("proof", len(ways))
        for words, way in ways:
            observer.wait("proof", words)
            if outcome := way():
                outcomes.append(outcome)
            observer.advance("proof", words)
        observer.end("proof")
        facts = device.facts()
    return Experiment(facts.serial, facts.title, units, measured, prover.crossing_us, tuple(outcomes))


def _ways(
    prover: Prover, units: Sequence[Unit], measured: MeasuredPieces, stages: int
) -> Iterator[tuple[str, Callable[[], Outcome | None]]]:
    """Yield each way with its words; copies before pipelines, which are predicted with what copies lost."""
    by_delegate = {unit.delegate: unit for unit in reversed(units)}
    for unit in by_delegate.values():
        yield f"whole on {unit.name}", partial(prover.whole, unit)
    cores = _copied_on(units, measured)
    for count in range(2, len(cores) + 1):
        yield f"{count} copies", partial(prover.copies, cores[:count])
    yield "fastest chain", prover.chain
    accelerators = [name for name in by_delegate if not find_delegate(name).is_cpu]
    for count in range(2, stages + 1 if len(units) > 1 else 2):
        yield f"pipeline of {count} stages", partial(prover.pipeline, count)
        for name in accelerators:
            yield f"pipeline of {count} stages with {name}", partial(prover.pipeline, count, including=[name])


def _copied_on(units: Sequence[Unit], measured: MeasuredPieces) -> list[Unit]:
    """Return the cores with the CPU delegate that runs the whole model the fastest."""
    whole_us = {name: time_us for name, time_us in measured.whole_us.items() if time_us and find_delegate(name).is_cpu}
    fastest = min(whole_us, key=lambda name: whole_us[name], default=None)
    return [unit for unit in units if unit.delegate == fastest]


def units_of(chosen: MeasuredCores, delegates: Sequence[str]) -> tuple[Unit, ...]:
    """Return each measured core as a unit for CPU delegates, and each accelerator as one."""
    units = []
    for delegate in delegates:
        is_cpu = find_delegate(delegate).is_cpu
        if not is_cpu or chosen.mask is None:
            units.append(Unit(delegate, delegate, chosen.mask, chosen.cores, may_share=is_cpu))
        else:
            units += [
                Unit(f"{delegate}@{core}", delegate, as_mask([core]), (core,), may_share=True)
                for core in chosen.cores[:_MOST_CPU_UNITS]
            ]
    return tuple(units)


def _reach(device: Device) -> Callable[[], Device]:
    return HostDevice if device.kind is DeviceKind.HOST else lambda: reopen(device)
