"""The noise floor between two nights, from the nights themselves: the same was swept again every night."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.analysis.comparable_cell import Side
from harness.analysis.device_noise import LATEST_SWEEPS, DeviceNoise, between_floor
from harness.analysis.history.nights import CellNights, Night
from harness.analysis.history.steps import examine
from harness.analysis.noise_floor import NoiseFloor

FEWEST_SWEEPS = 3
"""As for `harness noise`: with three the floor is ten times their deviation, with twenty four times."""


class NightNoise(DeviceNoise):
    """Takes nights of one cell with the same contents and conditions as A/A sweeps; else what `harness noise` knows."""

    def __init__(self, cells: Iterable[CellNights], noise_sides: Sequence[Side], at_hand: Sequence[Side]) -> None:
        """`cells` are those whose nights may serve; the nights that are compared (`at_hand`) tell nothing of noise."""
        super().__init__(noise_sides, at_hand)
        compared = {side.sweep_id for side in at_hand}
        nights = (_as_side(cell, night) for cell in cells for night in _since_last_step(cell))
        self._nights = [side for side in nights if side.sweep_id not in compared]

    def between(self, a: Side, b: Side) -> NoiseFloor:
        """Return the floor of two cells of different sweeps: from like cells of the same phone and delegate."""
        wanted = ("os", "device")
        like = [
            side for side in self._nights
            if side.cell["delegate_requested"] == b.cell["delegate_requested"]
            and all(side.conditions[name] == b.conditions[name] for name in wanted)
        ]  # fmt: skip
        sweeps = sorted({side.sweep_id for side in like})
        floor = between_floor(like) if len(sweeps) >= FEWEST_SWEEPS else None
        if floor is None:
            return super().between(a, b)
        return replace(floor, source=f"{len(sweeps)} earlier nights, the last {sweeps[-1]}")


def _since_last_step(cell: CellNights) -> list[Night]:
    """Leave out what lies before a step: it would pass for noise."""
    steps = examine(cell, effect=0).steps
    return cell.good[steps[-1].at if steps else 0 :][-LATEST_SWEEPS:]


def _as_side(cell: CellNights, night: Night) -> Side:
    row = {"serial": cell.name.serial, "delegate_requested": cell.name.delegate, "cell_key": night.cell_key}
    return Side(night.sweep_id, row, night.conditions, night.latencies_us)
