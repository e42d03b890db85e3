"""What a store knows of the noise of its devices: from A/A sweeps where there are some, else the sweeps at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from harness.results import schema
from harness.results.noise import NoiseFloor, assumed_floor, floor_between_sweeps, floor_within_sweep
from harness.results.ratio import middle
from harness.results.sides import Side, read_sides
from harness.results.store import Store

LATEST_SWEEPS = 20
"""A/A sweeps of a device that are looked at; older ones may be of a device that has changed since."""


class DeviceNoise:
    """Floors for comparisons between `at_hand`, the sides of the sweeps that are being compared."""

    def __init__(self, noise_sides: Sequence[Side], at_hand: Sequence[Side]) -> None:
        compared = {side.sweep_id for side in at_hand}
        self._noise = [side for side in noise_sides if side.sweep_id not in compared]
        self._at_hand = at_hand

    def within(self, a: Side, b: Side, pairs: int) -> NoiseFloor | None:
        """Return the floor of two cells that were measured in turns, by `pairs` pairs."""
        if not pairs:
            return None
        if known := self._like(a, b):
            return within_floor(known, pairs)
        same_sweep = [side for side in self._at_hand if side.sweep_id == a.sweep_id and _same_device(side, a)]
        return within_floor(same_sweep, pairs, "the spread of this sweep's own processes")

    def between(self, a: Side, b: Side) -> NoiseFloor:
        """Return the floor of two cells of different sweeps."""
        return between_floor(self._like(a, b)) or assumed_floor()

    def _like(self, a: Side, b: Side) -> list[Side]:
        """Return A/A cells of the device as it is now: those of the same delegates, else of any."""
        of_device = [side for side in self._noise if _same_device(side, b)]
        wanted = {a.cell["delegate_requested"], b.cell["delegate_requested"]}
        return [side for side in of_device if side.cell["delegate_requested"] in wanted] or of_device


def within_floor(sides: Sequence[Side], pairs: int, source: str | None = None) -> NoiseFloor | None:
    """Return the floor of `pairs` pairs that the cells of one device show within their sweeps."""
    return floor_within_sweep([list(side.latencies_us.values()) for side in sides], pairs, source or _source(sides))


def between_floor(sides: Sequence[Side]) -> NoiseFloor | None:
    """Return the floor between sweeps that A/A cells of one device show; None where no cell was swept twice."""
    cells: dict[str, list[float]] = {}
    for side in sides:
        if side.latencies_us:
            cells.setdefault(side.cell["cell_key"], []).append(middle(list(side.latencies_us.values())))
    return floor_between_sweeps(list(cells.values()), _source(sides))


def read_noise(store: Store, at_hand: Sequence[Side]) -> DeviceNoise:
    """Read what is known of the devices of `at_hand`."""
    return DeviceNoise(noise_sides(store, {side.cell["serial"] for side in at_hand}), at_hand)


def noise_sides(store: Store, serials: Collection[str]) -> list[Side]:
    """Return the cells of the latest A/A sweeps of these devices."""
    found: Counter[str] = Counter()
    sides: list[Side] = []
    for record in store.sweeps():  # the newest first
        if not record.is_noise:
            continue
        devices = store.rows(schema.devices, record.id, without=("facts", "preparation"))
        wanted = {row["serial"] for row in devices} & {name for name in serials if found[name] < LATEST_SWEEPS}
        found.update(wanted)
        if wanted:
            sides += [side for side in read_sides(store, record.id) if side.cell["serial"] in wanted]
    return sides


def _same_device(one: Side, other: Side) -> bool:
    return all(one.conditions[name] == other.conditions[name] for name in ("device", "os"))


def _source(sides: Sequence[Side]) -> str:
    sweeps = sorted({side.sweep_id for side in sides})
    return f"{len(sweeps)} A/A sweeps, the last {sweeps[-1]}" if sweeps else ""
