"""What a sweep would do, told without touching a device or converting a model (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.spec.sweep import SweepSpec

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
    """Return the wall time of all rows: devices run side by side, one device's cells one after the other."""
    per_device: dict[str, float] = {}
    for row in rows:
        per_device[row.device] = per_device.get(row.device, 0.0) + row.expected_s
    return max(per_device.values(), default=0.0)
