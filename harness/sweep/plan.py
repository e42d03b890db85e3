"""The order in which one device's cells are measured: seeded, interleaved blocks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.benchmark.invocation import Pass
from harness.benchmark.program import Feature, can
from harness.benchmark.tool import Tool
from harness.spec.sweep import MeasurementSettings, SweepSpec
from harness.store.records import Cell


@dataclass(frozen=True)
class PlannedInvocation:
    """One process that is to be run: the `index`-th of its cell and pass, in the `block`-th block of the device."""

    cell: Cell
    purpose: Pass
    index: int
    block: int


Groups = Callable[[Sequence[Cell]], Sequence[Sequence[Cell]]]
"""Divides the cells of one device: each group is measured whole before the next begins."""


def at_once(cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
    """Measure all cells in turns: what a sweep does that has all the time it needs."""
    return [cells]


@dataclass(frozen=True)
class PlannedGroup:
    """Cells that are measured in turns."""

    cells: Sequence[Cell]
    invocations: Sequence[PlannedInvocation]


def plan_groups(
    groups: Sequence[Sequence[Cell]], measurement: MeasurementSettings, *, seed: int, first_block: int = 0
) -> list[PlannedGroup]:
    """Plan one wave after the other. Blocks are counted on, so that only what was measured in turns shares a block."""
    planned: list[PlannedGroup] = []
    for cells in groups:
        invocations = plan_invocations(cells, measurement, seed=seed, first_block=first_block)
        planned.append(PlannedGroup(cells, invocations))
        first_block = 1 + max((invocation.block for invocation in invocations), default=first_block - 1)
    return planned


def plan_invocations(
    cells: Sequence[Cell], measurement: MeasurementSettings, *, seed: int, first_block: int = 0
) -> tuple[PlannedInvocation, ...]:
    """Order the invocations of one device's cells.

    Every block holds each cell once, in an order drawn again, so that slow changes of the device (heat, background
    work) spread over all cells instead of falling on the last one (randomized block design; google/benchmark's random
    interleaving is the same idea). Blocks of the memory pass and of the operator profile come after all latency blocks,
    since their monitors disturb latency. The order is a pure function of cells, counts and seed.
    """
    blocks = [(Pass.LATENCY, index) for index in range(measurement.invocations)]
    blocks += [(Pass.MEMORY, index) for index in range(measurement.memory_invocations)]
    blocks += [(Pass.OP_PROFILE, index) for index in range(measurement.op_profile_invocations)]
    planned: list[PlannedInvocation] = []
    for block, (purpose, index) in enumerate(blocks, start=first_block):
        order = sorted(cells, key=lambda cell: cell.key)
        random.Random(f"{seed}/{block}").shuffle(order)  # noqa: S311 - an order, not a secret
        planned += [PlannedInvocation(cell, purpose, index, block) for cell in order]
    return tuple(planned)


def measured_by(tool: Tool, measurement: MeasurementSettings) -> MeasurementSettings:
    """Leave out the passes that a tool does not offer."""
    return (
        measurement if can(tool, Feature.OP_PROFILE) else measurement.model_copy(update={"op_profile_invocations": 0})
    )


def mode_of(measurement: MeasurementSettings) -> dict[str, object]:
    """Return the settings that decide whether two cells were measured alike, as `Cell.mode` holds them."""
    return {
        "runs": measurement.runs,
        "warmup_min_s": measurement.warmup_min_s,
        "warmup_max_s": measurement.warmup_max_s,
        "warmup_limit": measurement.warmup_limit,
    }


ASSUMED_LATENCY_S = 0.010
ASSUMED_START_S = 0.6
"""Starting the tool, loading the model and reading the phone's state, for one invocation."""
ASSUMED_ACCURACY_S = 3.0
"""Labelled samples through one cell."""


@dataclass(frozen=True)
class OutlineRow:
    """One cell of the plan, by names."""

    device: str
    recipe: str
    delegate: str
    threads: int
    invocations: int
    expected_s: float


def outline(spec: SweepSpec, delegates_of: Mapping[str, Sequence[str]]) -> list[OutlineRow]:
    """List the cells of a sweep. `delegates_of` holds each device with the delegates to be measured on it."""
    measurement = spec.measurement
    warm_up_s = ASSUMED_START_S + 2 * measurement.warmup_min_s if measurement.warmup_max_s else 0.0
    init_s = 2 * measurement.init_pairs * ASSUMED_START_S
    before_and_after_s = warm_up_s + init_s + measurement.sustained_s
    latency_s = ASSUMED_START_S + measurement.warmup_min_s + measurement.runs * ASSUMED_LATENCY_S
    accuracy_s = ASSUMED_ACCURACY_S if measurement.accuracy_samples else 0.0
    invocations = measurement.invocations + measurement.memory_invocations + measurement.op_profile_invocations
    return [
        OutlineRow(
            device, recipe, delegate, threads, invocations, invocations * latency_s + before_and_after_s + accuracy_s
        )
        for device, delegates in delegates_of.items()
        for recipe in spec.recipes
        for delegate in delegates
        for threads in spec.threads
    ]


def expected_duration_s(rows: Sequence[OutlineRow]) -> float:
    """Return the wall time of all rows: devices run side by side, one device's cells one after another."""
    per_device: dict[str, float] = {}
    for row in rows:
        per_device[row.device] = per_device.get(row.device, 0.0) + row.expected_s
    return max(per_device.values(), default=0.0)


def window_count(measurement: MeasurementSettings) -> int:
    """Return how many windows a cell is run for."""
    return math.ceil(measurement.sustained_s / measurement.sustained_window_s)


def is_unfinished(cell: Cell, measurement: MeasurementSettings, done: Collection[tuple[str, Pass, int]]) -> bool:
    """Return True if any window of a cell is missing. Half a run cannot be resumed, since the phone cooled."""
    return any((cell.key, Pass.SUSTAINED, index) not in done for index in range(window_count(measurement)))
