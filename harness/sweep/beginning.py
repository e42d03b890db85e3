"""Begin a sweep in a store: its id, its spec, and the computer that it runs on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

from harness.results.records import SweepRecord, new_sweep_id
from harness.results.store import Store
from harness.spec.sweep import SweepSpec


def begin_sweep(store: Store, spec: SweepSpec) -> str:
    """Store a new sweep and return its id."""
    started_at = datetime.now(UTC)
    host = {"name": platform.node(), "platform": platform.platform(), "python": platform.python_version(),
            "cores": os.cpu_count()}  # fmt: skip
    record = SweepRecord(
        new_sweep_id(started_at), started_at, spec.model_dump(mode="json"), spec.preset, spec.seed, host
    )
    store.start_sweep(record)
    return record.id
