"""What a store knows of the noise of its devices: from A/A sweeps where there are some, else the sweeps at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.analysis.comparable_cell import ComparableCell, comparable_cells
from harness.analysis.noise_floor import NoiseFloor, assumed_floor, floor_between_sweeps, floor_within_sweep
from harness.analysis.ratio import middle
from harness.store import schema
from harness.store.store import Store
from harness.store.sweep_rows import read_sweep_rows

LATEST_SWEEPS = 20
"""A/A sweeps of a device that are looked at; older ones may be of a device that has changed since."""


class DeviceNoise:
    """Floors for comparisons between `at_hand`, the sides of the sweeps that are being compared."""

    def __init__(self, noise_cells: Sequence[ComparableCell], at_hand: Sequence[ComparableCell]) -> None:
        compared = {side.sweep_id for side in at_hand}
        self._noise = [side for side in noise_cells if side.sweep_id not in compared]
        self._at_hand = at_hand
        self._floors: dict[tuple[object, ...], NoiseFloor | None] = {}
        """By all that decides them: the many couples of a night have few."""

    def within(self, a: ComparableCell, b: ComparableCell, pairs: int) -> NoiseFloor | None:
        """Return the floor of two cells that were measured in turns, by `pairs` pairs."""
        if not pairs:
            return None
        key = (*_deciding(a, b), a.sweep_id, pairs)
        if key not in self._floors:
            self._floors[key] = self._within(a, b, pairs)
        return self._floors[key]

    def _within(self, a: ComparableCell, b: ComparableCell, pairs: int) -> NoiseFloor | None:
        if known := self._like(a, b):
            return within_floor(known, pairs)
        same_sweep = [side for side in self._at_hand if side.sweep_id == a.sweep_id and _same_device(side, a)]
        return within_floor(same_sweep, pairs, "the spread of this sweep's own processes")

    def between(self, a: ComparableCell, b: ComparableCell) -> NoiseFloor:
        """Return the floor of two cells of different sweeps."""
        key = _deciding(a, b)
        if key not in self._floors:
            self._floors[key] = between_floor(self._like(a, b))
        return self._floors[key] or assumed_floor()

    def _like(self, a: ComparableCell, b: ComparableCell) -> list[ComparableCell]:
        """Return A/A cells of the device as it is now: those of the same delegates, else of any."""
        of_device = [side for side in self._noise if _same_device(side, b)]
        wanted = {a.cell["delegate_requested"], b.cell["delegate_requested"]}
        return [side for side in of_device if side.cell["delegate_requested"] in wanted] or of_device


def _deciding(a: ComparableCell, b: ComparableCell) -> tuple[object, ...]:
    """Return what decides which A/A cells are like two cells."""
    delegates = frozenset((a.cell["delegate_requested"], b.cell["delegate_requested"]))
    return (a.conditions["device"], a.conditions["os"], b.conditions["device"], b.conditions["os"], delegates)


def within_floor(sides: Sequence[ComparableCell], pairs: int, source: str | None = None) -> NoiseFloor | None:
    """Return the floor of `pairs` pairs that the cells of one device show within their sweeps."""
    return floor_within_sweep([list(side.latencies_us.values()) for side in sides], pairs, source or _source(sides))


def between_floor(sides: Sequence[ComparableCell]) -> NoiseFloor | None:
    """Return the floor between sweeps that A/A cells of one device show; None where no cell was swept twice."""
    cells: dict[str, list[float]] = {}
    for side in sides:
        if side.latencies_us:
            cells.setdefault(side.cell["cell_key"], []).append(middle(list(side.latencies_us.values())))
    return floor_between_sweeps(list(cells.values()), _source(sides))


def read_noise(store: Store, at_hand: Sequence[ComparableCell]) -> DeviceNoise:
    """Read what is known of the devices of `at_hand`."""
    return DeviceNoise(noise_cells(store, {side.cell["serial"] for side in at_hand}), at_hand)


def noise_cells(store: Store, serials: Collection[str]) -> list[ComparableCell]:
    """Return the cells of the latest A/A sweeps of these devices."""
    noise_sweeps = [record.id for record in store.sweeps() if record.is_noise]  # the newest first
    measured: dict[str, set[str]] = {sweep_id: set() for sweep_id in noise_sweeps}
    for row in store.rows(schema.devices, noise_sweeps, without=("facts", "preparation")):
        measured[row["sweep_id"]].add(row["serial"])
    found: Counter[str] = Counter()
    wanted: dict[str, set[str]] = {}
    for sweep_id in noise_sweeps:
        wanted[sweep_id] = {name for name in measured[sweep_id].intersection(serials) if found[name] < LATEST_SWEEPS}
        found.update(wanted[sweep_id])
    sweeps = read_sweep_rows(store, [sweep_id for sweep_id in noise_sweeps if wanted[sweep_id]])
    return [
        side for sweep in sweeps for side in comparable_cells(sweep) if side.cell["serial"] in wanted[sweep.sweep_id]
    ]


def _same_device(one: ComparableCell, other: ComparableCell) -> bool:
    return all(one.conditions[name] == other.conditions[name] for name in ("device", "os"))


def _source(sides: Sequence[ComparableCell]) -> str:
    sweeps = sorted({side.sweep_id for side in sides})
    return f"{len(sweeps)} A/A sweeps, the last {sweeps[-1]}" if sweeps else ""


@dataclass(frozen=True)
class DeviceFloors:
    """The noise floors of one delegate on one device, as relative differences; None if too little was measured."""

    serial: str
    delegate: str
    sweeps: int
    pairs: int
    floor_within_sweep: float | None
    floor_between_sweeps: float | None


def read_floors(store: Store, serials: Collection[str]) -> list[DeviceFloors]:
    """Return one row per device and delegate, from all A/A sweeps stored for the device in its present state."""
    measured = [side for side in noise_cells(store, serials) if side.latencies_us]
    newest = {side.cell["serial"]: side.conditions["os"] for side in reversed(measured)}
    groups: dict[tuple[str, str], list[ComparableCell]] = {}
    for side in measured:
        if side.conditions["os"] == newest[side.cell["serial"]]:
            groups.setdefault((side.cell["serial"], side.cell["delegate_requested"]), []).append(side)
    rows = []
    for (serial, delegate), sides in groups.items():
        pairs = len(sides[0].latencies_us)
        within, between = within_floor(sides, pairs), between_floor(sides)
        rows.append(
            DeviceFloors(
                serial,
                delegate,
                len(sides),
                pairs,
                within.value if within else None,
                between.value if between else None,
            )
        )
    return rows
