"""What can be turned on a phone before measuring, one class a knob."""

from __future__ import annotations

from harness.devices.knobs.cpu_clocks import CpuClocks
from harness.devices.knobs.cpu_governor import CpuGovernor
from harness.devices.knobs.fixed_performance import FixedPerformance
from harness.devices.knobs.screen import Screen
from harness.devices.knobs.stay_awake import StayAwake
from harness.devices.preparation.knob import Knob
from harness.spec.profile import PrepareSpec

EVERY_KNOB: tuple[Knob, ...] = (StayAwake(), Screen(on=True), FixedPerformance(), CpuGovernor(), CpuClocks())
"""One of each, to restore by name what an earlier harness left."""


def knobs_of(wishes: PrepareSpec) -> list[Knob]:
    """Return the knobs that a profile asks for, in the order in which they are turned."""
    knobs: list[Knob] = []
    if wishes.stay_awake:
        knobs.append(StayAwake())
    if wishes.screen != "as-is":
        knobs.append(Screen(on=wishes.screen == "on"))
    if wishes.fixed_performance:
        knobs.append(FixedPerformance())
    if wishes.lock_clocks:
        knobs += [CpuGovernor(), CpuClocks(wishes.clock_share)]
    return knobs
