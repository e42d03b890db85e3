"""What each piece of a model takes on each delegate of a device, and what crossing between pieces costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.accuracy.dataset import random_samples
from harness.accuracy.on_device import AccuracyTarget, Evidence, measure_accuracy
from harness.accuracy.reference import Reference
from harness.benchmark.delegates import find_delegate
from harness.benchmark.registry import ToolRegistry
from harness.compression.variant import Variant
from harness.devices.base import Device
from harness.errors import DeviceError, Failure, FailureClass
from harness.paths import cache_folder
from harness.progress import Observer
from harness.results.export import to_rows
from harness.results.store import Store
from harness.results.summary import summarize
from harness.spec.sweep import SweepSpec
from harness.sweep.of_variants import sweep_variants

_COPY = 'head -c "$1" /dev/zero | wc -c'
"""Says how much went through, so that a phone without one of the two is found out."""
_COPIED_BYTES = 256_000_000
_FEWEST_COPIES, _MOST_COPIES = 200, 100_000
_TRIES = 3
_TIMEOUT_S = 120.0
_US_PER_S = 1e6


@dataclass(frozen=True)
class MeasuredPieces:
    """Latencies by delegate, microseconds; None where a piece does not run as asked, or computes another thing."""

    sweep_id: str
    whole_us: Mapping[str, float | None]
    pieces_us: Mapping[str, tuple[float | None, ...]]
    start_us: Mapping[str, float]
    """Initialisation and first inference of the slowest piece, by delegate."""
    reasons: tuple[str, ...]
    """Why something is None, one sentence each."""


def measure_pieces(
    whole: Variant,
    pieces: Sequence[Variant],
    spec: SweepSpec,
    device: Device,
    *,
    store: Store,
    registry: ToolRegistry,
    observer: Observer,
) -> MeasuredPieces:
    """Sweep the whole and its pieces in turns, and check what accelerators compute. Raises `DeviceError`."""
    sweep_id = sweep_variants(
        [whole, *pieces], spec, device, store=store, registry=registry, observer=observer
    )  # fmt: skip
    rows = {(row["variant"], row["delegate_requested"]): row for row in to_rows(summarize(store, sweep_id))}
    delegates = list(dict.fromkeys(delegate for _, delegate in rows if delegate))
    checked = _Checked(device, registry, spec)
    reasons: list[str] = []

    def latency_us(variant: Variant, delegate: str) -> float | None:
        row = rows.get((variant.name, delegate), {})
        reason = _reason(row) or checked.reason(variant, delegate)
        if reason:
            reasons.append(f"{variant.name} on {delegate}: {reason}")
        return None if reason else row["latency_median_us"]

    return MeasuredPieces(
        sweep_id,
        whole_us={delegate: latency_us(whole, delegate) for delegate in delegates},
        pieces_us={delegate: tuple(latency_us(piece, delegate) for piece in pieces) for delegate in delegates},
        start_us={delegate: max(_start_us(rows, piece, delegate) for piece in pieces) for delegate in delegates},
        reasons=tuple(reasons),
    )


def _reason(row: Mapping[str, Any]) -> str:
    if not row or row["latency_median_us"] is None:
        return (row.get("failure_message") if row else "") or "it was not measured."
    ran_elsewhere = row["fell_back"] and not find_delegate(row["delegate_requested"]).is_cpu
    return "it ran elsewhere, or in part." if ran_elsewhere else ""


def _start_us(rows: Mapping[tuple[str, str], Mapping[str, Any]], piece: Variant, delegate: str) -> float:
    row = rows.get((piece.name, delegate), {})
    return sum(row.get(name) or 0.0 for name in ("init_median_us", "first_inference_median_us"))


class _Checked:
    """Outputs of accelerators against the host's run of the same piece, on random inputs (promise H14)."""

    def __init__(self, device: Device, registry: ToolRegistry, spec: SweepSpec) -> None:
        self._device, self._spec = device, spec
        self._tool = registry.choose(device.facts())
        self._reference = Reference(cache_folder() / "reference")

    def reason(self, variant: Variant, delegate: str) -> str:
        """Return what is wrong with the outputs; empty where nothing is, or the CPU computed them."""
        if find_delegate(delegate).is_cpu:
            return ""
        target = AccuracyTarget(
            self._device, self._tool, self._device.push(self._tool.path), variant, self._device.push(variant.path),
            delegate, self._spec.threads[0], self._spec.measurement.timeout_s,
        )  # fmt: skip
        evidence = Evidence(random_samples(variant.card.inputs), self._reference, None, self._spec.output_limits)
        failure = measure_accuracy(target, evidence).failure
        return failure.message if failure else ""


def crossing_us(device: Device, size_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> float:
    """Return what it takes to hand so many bytes from one process of the device to another, through a pipe.

    An upper bound for stages in one process, which share memory. Raises `DeviceError`, also for a phone that cannot.
    """
    if not size_bytes:
        return 0.0
    copies = min(max(_COPIED_BYTES // size_bytes, _FEWEST_COPIES), _MOST_COPIES)

    def seconds(count: int) -> float:
        started = clock()
        result = device.run(["sh", "-c", _COPY, "sh", str(size_bytes * count)], timeout_s=_TIMEOUT_S)
        taken_s = clock() - started
        if result.stdout.strip() != str(size_bytes * count):
            message = "What crossing costs cannot be measured: the phone has no `head -c` or no `wc`."
            raise DeviceError(Failure(FailureClass.INTERNAL, message, result.stderr.strip()))
        return taken_s

    idle_s = min(seconds(1) for _ in range(_TRIES))  # starting the processes, and the way there and back
    copying_s = min(seconds(copies) for _ in range(_TRIES))
    return max(copying_s - idle_s, 0.0) / copies * _US_PER_S
