"""Read the noise of devices: from A/A sweeps if there are any, otherwise from the sweeps that are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.comparable_cell import ComparableCell
from harness.analysis.noise_floor import NoiseFloor, assumed_floor, floor_between_sweeps, floor_within_sweep
from harness.analysis.ratio import middle
from harness.analysis.result_row import ResultRow
from harness.analysis.verdict import Verdict
from harness.benchmark.invocation import Pass
from harness.store.reader import StoreReader
from harness.store.rows import CellRow, NightInvocation

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
        wanted = {a.cell.delegate_requested, b.cell.delegate_requested}
        return [side for side in of_device if side.cell.delegate_requested in wanted] or of_device


def _deciding(a: ComparableCell, b: ComparableCell) -> tuple[object, ...]:
    """Return what decides which A/A cells are like two cells."""
    delegates = frozenset((a.cell.delegate_requested, b.cell.delegate_requested))
    return (a.conditions["device"], a.conditions["os"], b.conditions["device"], b.conditions["os"], delegates)


def within_floor(sides: Sequence[ComparableCell], pairs: int, source: str | None = None) -> NoiseFloor | None:
    """Return the floor of `pairs` pairs that the cells of one device show within their sweeps."""
    return floor_within_sweep([list(side.latencies_us.values()) for side in sides], pairs, source or _source(sides))


def between_floor(sides: Sequence[ComparableCell]) -> NoiseFloor | None:
    """Return the floor between sweeps that A/A cells of one device show; None if no cell was swept twice."""
    cells: dict[str, list[float]] = {}
    for side in sides:
        if side.latencies_us:
            cells.setdefault(side.key, []).append(middle(list(side.latencies_us.values())))
    return floor_between_sweeps(list(cells.values()), _source(sides))


def read_noise(store: StoreReader, at_hand: Sequence[ComparableCell]) -> DeviceNoise:
    """Read what is known of the devices of `at_hand`."""
    return DeviceNoise(noise_cells(store, {side.serial for side in at_hand}), at_hand)


def noise_cells(store: StoreReader, serials: Collection[str]) -> list[ComparableCell]:
    """Return the cells of the latest A/A sweeps of these devices, with what a noise floor needs of each."""
    records = {record.id: record for record in store.sweeps() if record.is_noise}  # the newest first
    devices = {(device.sweep_id, device.serial): device for device in store.devices_of_nights(records)}
    found: Counter[str] = Counter()
    wanted: set[tuple[str, str]] = set()
    for sweep_id in records:
        chosen = {name for name in serials if (sweep_id, name) in devices and found[name] < LATEST_SWEEPS}
        wanted |= {(sweep_id, name) for name in chosen}
        found.update(chosen)
    sweep_ids = [sweep_id for sweep_id in records if any((sweep_id, name) in wanted for name in serials)]
    cells = [
        cell
        for cell in store.cells(*sweep_ids)
        if (cell.sweep_id, cell.serial) in wanted and cell.key not in records[cell.sweep_id].set_aside
    ]
    latencies = _latencies(store.invocations_of_nights(sweep_ids))
    order = {sweep_id: index for index, sweep_id in enumerate(sweep_ids)}
    return [
        _noise_cell(cell, devices[cell.sweep_id, cell.serial].fingerprint, latencies.get((cell.sweep_id, cell.key), {}))
        for cell in sorted(cells, key=lambda cell: order[cell.sweep_id])
    ]


def _noise_cell(cell: CellRow, fingerprint: str | None, latencies_us: Mapping[int, float]) -> ComparableCell:
    row = ResultRow(
        sweep_id=cell.sweep_id,
        serial=cell.serial,
        variant=cell.variant_name,
        delegate_requested=cell.delegate,
        cell_key=cell.key,
        verdict=Verdict.UNCHECKED.value,
    )
    return ComparableCell(cell.sweep_id, row, {"device": cell.serial, "os": fingerprint}, latencies_us)


def _latencies(invocations: Iterable[NightInvocation]) -> dict[tuple[str, str], dict[int, float]]:
    """Return the latencies of each cell by block: of the last attempt of each process, if it succeeded."""
    latest = {
        (row.sweep_id, row.cell_key, row.invocation_index): row for row in invocations if row.purpose == Pass.LATENCY
    }
    cells: dict[tuple[str, str], list[NightInvocation]] = {}
    for row in sorted(latest.values(), key=lambda row: row.block):
        if row.failure_class is None:
            cells.setdefault((row.sweep_id, row.cell_key), []).append(row)
    return {place: _by_block(rows) for place, rows in cells.items()}


def _by_block(rows: Sequence[NightInvocation]) -> dict[int, float]:
    """Return medians if the tool prints one for every process of the cell, else averages."""
    has_medians = all(row.latency_median_us is not None for row in rows)
    values = {row.block: row.latency_median_us if has_medians else row.latency_avg_us for row in rows}
    return {block: value for block, value in values.items() if value is not None}


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


def read_floors(store: StoreReader, serials: Collection[str]) -> list[DeviceFloors]:
    """Return one row per device and delegate, from all A/A sweeps stored for the device in its present state."""
    measured = [side for side in noise_cells(store, serials) if side.latencies_us]
    newest = {side.serial: side.conditions["os"] for side in reversed(measured)}
    groups: dict[tuple[str, str], list[ComparableCell]] = {}
    for side in measured:
        if side.conditions["os"] == newest[side.serial]:
            groups.setdefault((side.serial, side.cell.delegate_requested or ""), []).append(side)
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
