"""Nights as the tests of history and nightly need them: real sweeps in a real store, one a day."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from results_examples import accuracy_outcome, card, facts, measure, tool
from results_examples import cell as example_cell

from harness.analysis.history.nights import CellName, CellNights, Night
from harness.analysis.verdict import Verdict
from harness.errors import Failure, FailureClass
from harness.store.records import SweepRecord, SweepStatus

FIRST_NIGHT = datetime(2026, 9, 1, 1, 0, tzinfo=UTC)


def sweep_id(night):
    return f"{FIRST_NIGHT + timedelta(days=night):%Y%m%d-%H%M%S}-{night:04x}"


def add_night(store, night, latencies_us, *, os="build-1", sha256s=None, version="0.1.0", status="finished", **changes):
    """Store one sweep of one phone; `latencies_us` holds, by variant, the latencies of its processes."""
    started_at = FIRST_NIGHT + timedelta(days=night)
    identity = sweep_id(night)
    spec = {"model": "fashion-dscnn", "purpose": changes.pop("purpose", "measure")}
    store.start_sweep(SweepRecord(identity, started_at, spec, "quick", 1, {"platform": "Linux"}, version))
    serial = changes.pop("serial", "R58M")
    memory = changes.pop("memory", False)
    store.add_device(identity, replace(facts(serial), fingerprint=os), "generic", ())
    store.add_tool(identity, tool())
    for variant, latencies in latencies_us.items():
        variant_sha256 = (sha256s or {}).get(variant, card(variant).sha256)
        store.add_variant(identity, card(variant).model_copy(update={"sha256": variant_sha256}))
        cell = replace(example_cell(variant, serial=serial, **changes), variant_sha256=variant_sha256)
        measure(store, cell, latencies, outcome=accuracy_outcome(), memory=memory, sweep_id=identity)
    store.finish_sweep(identity, SweepStatus(status), started_at + timedelta(hours=1))
    return identity


def add_failed_night(store, night):
    identity = add_night(store, night, {})
    failure = Failure(FailureClass.DEVICE_LOST, "The phone went away.")
    store.add_device_failure(identity, "R58M", failure)
    return identity


def made_night(number, latencies_us, *, variant_sha256="a" * 64, **conditions):
    """A night as `read_nights` gives it, without a store."""
    return Night(
        sweep_id(number),
        FIRST_NIGHT + timedelta(days=number),
        "key",
        {"device": "R58M", "os": "build-1", "tool": "f" * 64, "mode": {"runs": 30}, "ran": "cpu", **conditions},
        {"variant int8": variant_sha256, "harness": "0.1.0"},
        dict(enumerate(latencies_us)),
        Verdict.RANKED,
    )


def made_cell(nights):
    return CellNights(CellName("R58M", "int8", "cpu", 1), "Google Pixel 8", list(nights))


def processes(generator, level_us, *, noise=0.0, spread=0.005, count=5):
    """Latencies of one night: its own level, and processes around it."""
    level = level_us * np.exp(generator.normal(0, noise))
    return [float(level * factor) for factor in np.exp(generator.normal(0, spread, count))]
