"""Cells over many sweeps: what each night says of one cell, read in a few queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from harness.analysis.statistics import Estimate, median, median_with_interval
from harness.analysis.verdict import FEWEST_INVOCATIONS, Facts, Verdict, judge_cell
from harness.benchmark.delegates import find_delegate
from harness.benchmark.invocation import Pass
from harness.errors import is_final
from harness.store.night_rows import accuracies_of, cells_named, devices_of, invocations_of, variants_of
from harness.store.records import SweepRecord
from harness.store.rows import counting_attempts
from harness.store.store import Store

LATEST_NIGHTS = 60

NO_LATENCY = frozenset({Verdict.FAILED, Verdict.NOT_MEASURED, Verdict.WRONG_OUTPUT})
"""Verdicts of a night that has no place in a series."""

Row = dict[str, Any]


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
        """Whether its latency may stand in a series."""
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
    store: Store,
    *,
    variant: str | None = None,
    delegate: str | None = None,
    serial: str | None = None,
    threads: int | None = None,
    last: int = LATEST_NIGHTS,
) -> list[CellNights]:
    """Return the `last` nights of every cell that fits the names given. A/A sweeps are no nights."""
    sweeps = {record.id: record for record in store.sweeps() if not record.is_noise}
    wanted = {"variant_name": variant, "delegate": delegate, "serial": serial, "threads": threads}
    found = {name: value for name, value in wanted.items() if value is not None}
    by_name: dict[CellName, list[Row]] = {}
    for cell in cells_named(store, found):
        if cell["sweep_id"] in sweeps and cell["key"] not in sweeps[cell["sweep_id"]].set_aside:
            name = CellName(cell["serial"], cell["variant_name"], cell["delegate"], cell["threads"])
            by_name.setdefault(name, []).append(cell)
    kept = {name: cells[-last:] for name, cells in by_name.items()}
    around = _Around.read(store, [cell for cells in kept.values() for cell in cells], narrow=bool(found))
    return [
        CellNights(name, around.title(cells[-1]), [around.night(cell, sweeps[cell["sweep_id"]]) for cell in cells])
        for name, cells in sorted(kept.items())
    ]


Place = tuple[str, str]
"""A sweep and, in it, a cell's key, a serial or a variant's name."""


@dataclass(frozen=True)
class _Around:
    """All that is stored around some cells, by sweep."""

    devices: Mapping[Place, Row]
    variants: Mapping[Place, Row]
    accuracies: Mapping[Place, Row]
    """The last attempt of each cell."""
    invocations: Mapping[Place, list[Row]]
    """The attempts that count of each process of the latency and memory passes, in the order of time."""

    @classmethod
    def read(cls, store: Store, cells: Sequence[Row], *, narrow: bool) -> _Around:
        """Read what belongs to the cells; `narrow` where they are few among many in their sweeps."""
        sweep_ids = sorted({cell["sweep_id"] for cell in cells})
        keys = sorted({cell["key"] for cell in cells}) if narrow else None
        attempts = invocations_of(store, sweep_ids, keys)
        invocations: dict[Place, list[Row]] = {}
        for row in sorted(counting_attempts(attempts), key=lambda row: int(row["block"])):
            invocations.setdefault((row["sweep_id"], row["cell_key"]), []).append(row)
        accuracies = accuracies_of(store, sweep_ids, keys)
        return cls(
            {(row["sweep_id"], row["serial"]): row for row in devices_of(store, sweep_ids)},
            {(row["sweep_id"], row["name"]): row for row in variants_of(store, sweep_ids)},
            {(row["sweep_id"], row["cell_key"]): row for row in accuracies},
            invocations,
        )

    def title(self, cell: Row) -> str:
        """Return the title of a cell's device."""
        return str(self.devices.get((cell["sweep_id"], cell["serial"]), {}).get("title", cell["serial"]))

    def night(self, cell: Row, sweep: SweepRecord) -> Night:
        """Put together what one sweep says of a cell."""
        device = self.devices.get((sweep.id, cell["serial"]), {})
        variant = self.variants.get((sweep.id, cell["variant_name"]), {})
        accuracy = self.accuracies.get((sweep.id, cell["key"]), {})
        rows = self.invocations.get((sweep.id, cell["key"]), [])
        timed = [row for row in rows if row["purpose"] == Pass.LATENCY]
        measured = [row for row in timed if row["failure_class"] is None]
        failures = [row["failure_class"] for row in (*timed, accuracy, device) if row.get("failure_class")]
        worst = min(measured, key=lambda row: _SEVERITY[row["fell_back"]], default=Row())
        kind = "median" if all(row["latency_median_us"] is not None for row in measured) else "average"
        column = "latency_median_us" if kind == "median" else "latency_avg_us"
        return Night(
            sweep.id,
            sweep.started_at,
            cell["key"],
            conditions={
                "device": cell["serial"],
                "os": device.get("fingerprint"),
                "tool": cell["tool_sha256"],
                "cores": cell["core_mask"],
                "mode": cell["mode"],
                "profile": cell["profile"],
                "model": variant.get("model"),
                "value": kind,
                "ran": worst.get("delegate_achieved"),
            },
            circumstances={
                f"variant {cell['variant_name']}": cell["variant_sha256"],
                "harness": sweep.harness_version,
                "host": sweep.host.get("platform"),
                "labels": ", ".join(sorted(device.get("labels") or [])),
            },
            latencies_us={row["block"]: row[column] for row in measured},
            verdict=judge_cell(
                Facts(
                    is_cpu=find_delegate(cell["delegate"]).is_cpu,
                    fell_back=worst.get("fell_back"),
                    check_passed=accuracy.get("check_passed"),
                    invocations_ok=len(measured),
                    invocations_failed=sum(is_final(row["failure_class"]) for row in timed) - len(measured),
                    has_failure=bool(failures),
                )
            ),
            failure_class=next(iter(failures), None),
            size_bytes=variant.get("size_bytes"),
            memory_mb=_memory(rows),
            **{name: accuracy.get(name) for name in ("top1", "top1_low", "top1_high")},
        )


_SEVERITY = {True: 0, None: 1, False: 2}
"""Which process stands for the night: one that fell back, else one that proves nothing, else any."""


def _memory(rows: Iterable[Row]) -> float | None:
    """Return the footprint of the memory pass, MB: the peak where the tool prints one."""
    measured = [row for row in rows if row["purpose"] == Pass.MEMORY and row["failure_class"] is None]
    for column in ("peak_memory_mb", "memory_overall_mb"):
        if values := [row[column] for row in measured if row[column] is not None]:
            return median(values)
    return None
