"""Begin a sweep in a store, or carry it on: its id, its spec, and the computer that it runs on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import harness
from harness.spec.sweep import SweepSpec
from harness.store.records import SweepRecord, new_sweep_id
from harness.store.rows import utc_text
from harness.store.store import Store
from harness.sweep.resume import changed_settings


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


def carry_on_sweep(store: Store, sweep_id: str, spec: SweepSpec) -> None:
    """Mark a sweep as running again, with a spec that may have changed since.

    Raises `UsageError` where another process runs it, or the changes leave nothing of it to reuse.
    """
    changes = changed_settings(store.find_sweep(sweep_id), spec)
    store.resume_sweep(sweep_id)
    sitting = {"started_at_utc": utc_text(datetime.now(UTC)), "host": platform.node(),
               "harness_version": harness.__version__, "changes": changes}  # fmt: skip
    store.note_sitting(sweep_id, spec.model_dump(mode="json"), sitting)
