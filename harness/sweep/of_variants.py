"""A sweep of variants that are already made, on one opened device: for what is no list of recipes of a model."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness.benchmark.registry import ToolRegistry
from harness.devices.device import Device
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.records import SweepStatus
from harness.store.store import Store
from harness.sweep.beginning import begin_sweep
from harness.sweep.context import SweepContext
from harness.sweep.device.device_run import DeviceRun
from harness.sweep.supply import VariantSupply
from harness.tflite.variant import Variant


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
    sweep_id = begin_sweep(store, spec.model_copy(update={"recipes": tuple(variant.name for variant in variants)}))
    status = SweepStatus.INTERRUPTED
    try:
        for variant in variants:
            store.add_variant(sweep_id, variant.card)
        supply = VariantSupply(variants)
        context = SweepContext(sweep_id, spec, supply, None, store, registry, observer, threading.Event())
        DeviceRun(context, device).run()
        status = SweepStatus.FINISHED
    finally:
        store.finish_sweep(sweep_id, status)
    return sweep_id
