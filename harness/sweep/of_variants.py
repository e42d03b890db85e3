"""A sweep of variants that are already made, on one opened device: for what is no list of recipes of a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from harness.benchmark.registry import ToolRegistry
from harness.compression.variant import Variant
from harness.devices.base import Device
from harness.progress import Observer
from harness.results.records import SweepRecord, SweepStatus, new_sweep_id
from harness.results.store import Store
from harness.spec.sweep import SweepSpec
from harness.sweep.device_run import DeviceRun, SweepContext


def sweep_variants(
    variants: Sequence[Variant],
    spec: SweepSpec,
    device: Device,
    *,
    store: Store,
    registry: ToolRegistry,
    observer: Observer,
) -> str:
    """Measure variants by the whole protocol but for accuracy, and return the sweep's id.

    `spec` names delegates, threads and counts; its model and recipes are not looked at. Raises `DeviceError`.
    """
    started_at = datetime.now(UTC)
    written = spec.model_dump(mode="json") | {"recipes": [variant.name for variant in variants]}
    record = SweepRecord(new_sweep_id(started_at), started_at, written, spec.preset, spec.seed, {})
    store.start_sweep(record)
    status = SweepStatus.INTERRUPTED
    try:
        for variant in variants:
            store.add_variant(record.id, variant.card)
        context = SweepContext(record.id, spec, variants, None, store, registry, observer, threading.Event())
        DeviceRun(context, device).run()
        status = SweepStatus.FINISHED
    finally:
        store.finish_sweep(record.id, status)
    return record.id
