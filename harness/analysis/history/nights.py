"""Cells over many sweeps: what each night says of one cell, read in a few queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from harness.analysis.statistics import Estimate, median, median_with_interval
from harness.analysis.verdict import FEWEST_INVOCATIONS, NO_LATENCY, Facts, Verdict, judge_cell
from harness.benchmark.delegates import is_cpu
from harness.benchmark.invocation import Pass
from harness.errors import is_final
from harness.store.reader import StoreReader
from harness.store.records import SweepRecord
from harness.store.rows import (
    CellRow,
    NightAccuracy,
    NightDevice,
    NightInvocation,
    NightVariant,
    counting_attempts,
)

LATEST_NIGHTS = 60


@dataclass(frozen=True, order=True)
class CellName:
    """What names one cell in every sweep, whatever its variant's contents and its tool are that night."""

    serial: str
    variant: str
    delegate: str
    threads: int


@dataclass(frozen=True)
class Night:
    """What one sweep says of one cell."""

    sweep_id: str
    started_at: datetime
    cell_key: str
    conditions: Mapping[str, object]
    """What must be the same for two nights to be alike: those of `sides.CONDITIONS`, and where the model `ran`."""
    circumstances: Mapping[str, object]
    """What may explain a difference between nights that are alike: the variant's contents, harness, host, labels."""
    latencies_us: Mapping[int, float]
    """One a successful process of the latency pass, by its block, in the order of time."""
    verdict: Verdict
    failure_class: str | None = None
    size_bytes: int | None = None
    memory_mb: float | None = None
    top1: float | None = None
    top1_low: float | None = None
    top1_high: float | None = None

    @property
    def is_good(self) -> bool:
        """Return True if its latency may stand in a series."""
        return self.verdict not in NO_LATENCY and len(self.latencies_us) >= FEWEST_INVOCATIONS

    @property
    def middle_us(self) -> float:
        """Median latency of a good night, microseconds."""
        value = median(list(self.latencies_us.values()))
        assert value is not None  # noqa: S101 - a good night has at least five
        return value

    @cached_property
    def latency(self) -> Estimate | None:
        """Median latency with its 95 % interval, microseconds, as in the sweep's own table."""
        return median_with_interval(list(self.latencies_us.values()))


@dataclass(frozen=True)
class CellNights:
    """One cell over its nights, the oldest first."""

    name: CellName
    device: str
    """The device's title."""
    nights: Sequence[Night]

    @cached_property
    def good(self) -> list[Night]:
        """The nights that hold a latency."""
        return [night for night in self.nights if night.is_good]


def read_nights(
    store: StoreReader,
    *,
    variant: str | None = None,
    delegate: str | None = None,
    serial: str | None = None,
    threads: int | None = None,
    last: int = LATEST_NIGHTS,
) -> list[CellNights]:
    """Return the `last` nights of every cell that fits the names given. A/A sweeps are no nights."""
    sweeps = {record.id: record for record in store.sweeps() if not record.is_noise}
    by_name: dict[CellName, list[CellRow]] = {}
    for cell in store.cells_named(variant=variant, delegate=delegate, serial=serial, threads=threads):
        if cell.sweep_id in sweeps and cell.key not in sweeps[cell.sweep_id].set_aside:
            name = CellName(cell.serial, cell.variant_name, cell.delegate, cell.threads)
            by_name.setdefault(name, []).append(cell)
    kept = {name: cells[-last:] for name, cells in by_name.items()}
    is_narrow = any(name is not None for name in (variant, delegate, serial, threads))
    around = _Around.read(store, [cell for cells in kept.values() for cell in cells], narrow=is_narrow)
    return [
        CellNights(name, around.title(cells[-1]), [around.night(cell, sweeps[cell.sweep_id]) for cell in cells])
        for name, cells in sorted(kept.items())
    ]


Place = tuple[str, str]
"""A sweep and, in it, a cell's key, a serial or a variant's name."""


@dataclass(frozen=True)
class _Around:
    """All that is stored around some cells, by sweep."""

    devices: Mapping[Place, NightDevice]
    variants: Mapping[Place, NightVariant]
    accuracies: Mapping[Place, NightAccuracy]
    """The last attempt of each cell."""
    invocations: Mapping[Place, list[NightInvocation]]
    """The attempts that count of each process of the latency and memory passes, in the order of time."""

    @classmethod
    def read(cls, store: StoreReader, cells: Sequence[CellRow], *, narrow: bool) -> _Around:
        """Read what belongs to the cells; `narrow` where they are few among many in their sweeps."""
        sweep_ids = sorted({cell.sweep_id for cell in cells})
        keys = sorted({cell.key for cell in cells}) if narrow else None
        attempts = store.invocations_of_nights(sweep_ids, keys)
        invocations: dict[Place, list[NightInvocation]] = {}
        for row in sorted(counting_attempts(attempts), key=lambda row: row.block):
            invocations.setdefault((row.sweep_id, row.cell_key), []).append(row)
        accuracies = store.accuracies_of_nights(sweep_ids, keys)
        return cls(
            {(row.sweep_id, row.serial): row for row in store.devices_of_nights(sweep_ids)},
            {(row.sweep_id, row.name): row for row in store.variants_of_nights(sweep_ids)},
            {(row.sweep_id, row.cell_key): row for row in accuracies},
            invocations,
        )

    def title(self, cell: CellRow) -> str:
        """Return the title of a cell's device."""
        device = self.devices.get((cell.sweep_id, cell.serial))
        return device.title if device else cell.serial

    def night(self, cell: CellRow, sweep: SweepRecord) -> Night:
        """Put together what one sweep says of a cell."""
        device = self.devices.get((sweep.id, cell.serial))
        variant = self.variants.get((sweep.id, cell.variant_name))
        accuracy = self.accuracies.get((sweep.id, cell.key))
        rows = self.invocations.get((sweep.id, cell.key), [])
        timed = [row for row in rows if row.purpose == Pass.LATENCY]
        measured = [row for row in timed if row.failure_class is None]
        failures = [row.failure_class for row in (*timed, accuracy, device) if row and row.failure_class]
        worst = min(measured, key=lambda row: _SEVERITY[row.fell_back], default=None)
        kind = "median" if all(row.latency_median_us is not None for row in measured) else "average"
        column = "latency_median_us" if kind == "median" else "latency_avg_us"
        return Night(
            sweep.id,
            sweep.started_at,
            cell.key,
            conditions={
                "device": cell.serial,
                "os": device.fingerprint if device else None,
                "tool": cell.tool_sha256,
                "cores": cell.core_mask,
                "mode": cell.mode,
                "profile": cell.profile,
                "model": variant.model if variant else None,
                "value": kind,
                "ran": worst.delegate_achieved if worst else None,
            },
            circumstances={
                f"variant {cell.variant_name}": cell.variant_sha256,
                "harness": sweep.harness_version,
                "host": sweep.host.get("platform"),
                "labels": ", ".join(sorted(device.labels if device else [])),
            },
            latencies_us={row.block: getattr(row, column) for row in measured},
            verdict=judge_cell(
                Facts(
                    is_cpu=is_cpu(cell.delegate),
                    fell_back=worst.fell_back if worst else None,
                    check_passed=accuracy.check_passed if accuracy else None,
                    invocations_ok=len(measured),
                    invocations_failed=sum(is_final(row.failure_class) for row in timed) - len(measured),
                    has_failure=bool(failures),
                    fidelity=variant.fidelity if variant else None,
                )
            ),
            failure_class=next(iter(failures), None),
            size_bytes=variant.size_bytes if variant else None,
            memory_mb=_memory(rows),
            top1=accuracy.top1 if accuracy else None,
            top1_low=accuracy.top1_low if accuracy else None,
            top1_high=accuracy.top1_high if accuracy else None,
        )


_SEVERITY = {True: 0, None: 1, False: 2}
"""Which process stands for the night: one that fell back, else one that proves nothing, else any."""


def _memory(rows: Iterable[NightInvocation]) -> float | None:
    """Return the footprint of the memory pass, MB: the peak where the tool prints one."""
    measured = [row for row in rows if row.purpose == Pass.MEMORY and row.failure_class is None]
    for column in ("peak_memory_mb", "memory_overall_mb"):
        if values := [value for row in measured if (value := getattr(row, column)) is not None]:
            return median(values)
    return None
