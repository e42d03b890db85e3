"""Decide what a resumed sweep can reuse, what it must redo, and why.

Content decides, never a name: a cell's key is a hash of the variant, the tool, the cores, the profile, the mode and the
preparation. Results under another key stay and are set aside; they are never mixed with new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from harness.benchmark.invocation import Pass
from harness.benchmark.tool import Tool
from harness.compression.recipes import find_recipe
from harness.devices.device import DeviceFacts
from harness.errors import DeviceError, Failure, FailureClass, UsageError, is_final
from harness.spec.loading import validate_spec
from harness.spec.sweep import MeasurementSettings, SweepSpec
from harness.store.reader import StoreReader
from harness.store.records import Cell, SweepRecord
from harness.store.rows import AccuracyRow, InvocationRow
from harness.sweep.plan import measured_by, mode_of, plan_invocations, window_count
from harness.sweep.retry import RULES
from harness.sweep.stopping import Stopping
from harness.text import contrast, pluralize

InvocationKey = tuple[str, Pass, int]
"""Cell key, pass and index of an invocation."""

FIXED = ("model", "purpose", "broken_gpu", "require_full_delegation")
"""Settings that decide what every row means, and are not in a cell's key."""
SUSTAINED = ("measurement.sustained_s", "measurement.sustained_window_s")
UNKNOWN = ""
"""Stands for a hash that is not known yet."""
IDENTITY = ("serial", "variant_name", "delegate", "threads")
"""What names a cell; two of one name differ in their conditions."""


def changed_settings(record: SweepRecord, spec: SweepSpec) -> dict[str, tuple[object, object]]:
    """Return the settings that differ from those of a stored sweep, old and new, such as `measurement.runs`.

    Raises `UsageError` for one that cannot change in one sweep.
    """
    old = _flat(validate_spec(dict(record.spec), SweepSpec, origin=f"sweep {record.id}").model_dump(mode="json"))
    new = _flat(spec.model_dump(mode="json"))
    changes = {name: (old.get(name), value) for name, value in new.items() if old.get(name) != value}
    fixed = [*FIXED, *(SUSTAINED if old["measurement.sustained_s"] else ())]
    if refused := [name for name in fixed if name in changes]:
        told = ", ".join(f"{name} {changes[name][0]} -> {changes[name][1]}" for name in refused)
        raise UsageError(
            f"No result of sweep {record.id} can be reused with {told}: it decides what every row means.",
            "Start a new sweep without --resume; variants still come from the cache.",
        )
    return changes


def changes_sentence(sweep_id: str, changes: Mapping[str, tuple[object, object]]) -> str:
    """Return a sentence with the resumed sweep and its changed settings."""
    told = "; ".join(f"{name} {_words(old)} -> {_words(new)}" for name, (old, new) in changes.items())
    return f"Resuming sweep {sweep_id}" + (f" with changes: {told}." if told else ".")


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def require_same_system(store: StoreReader, sweep_id: str, facts: DeviceFacts) -> None:
    """Raise `DeviceError` if a device with results in this sweep now runs a different system.

    A sweep stores one system per device, so older results would seem to come from the newer system.
    """
    stored = next((device for device in store.devices(sweep_id) if device.serial == facts.serial), None)
    before = ((stored.facts if stored else None) or {}).get("fingerprint")
    if stored is None or stored.facts is None or before == facts.fingerprint:
        return
    if any(cell.serial == facts.serial for cell in store.cells(sweep_id)):
        message = f"{facts.serial} runs a different system than when this sweep measured it."
        raise DeviceError(Failure(FailureClass.DEVICE_CHANGED, message, f"{before} before, {facts.fingerprint} now"))


def labels_so_far(store: StoreReader, sweep_id: str, serial: str) -> tuple[str, ...]:
    """Return the labels under which a device was measured in this sweep: those rows keep them."""
    if all(cell.serial != serial for cell in store.cells(sweep_id)):
        return ()
    stored = (device.labels for device in store.devices(sweep_id) if device.serial == serial)
    return tuple(next(stored, ()))


@dataclass(frozen=True)
class ResumeState:
    """The stored progress of one device in a sweep."""

    is_any: bool
    """True if anything was measured."""
    reopened: frozenset[InvocationKey]
    """Invocations to repeat: they timed out under a shorter limit, or retries were left."""
    stale_checks: frozenset[str]
    """Keys of cells whose outputs are checked again: samples or limits changed, or retries were left."""
    abandoned: frozenset[str]
    """Keys of cells that are not run any more."""
    next_block: int
    """Block numbers continue: new invocations were not interleaved with stored ones."""
    set_aside: Mapping[str, str]
    """Keys of cells that are now planned under other conditions, and what changed."""
    names: Mapping[str, str]
    """Their names."""
    left_out: Sequence[str]
    """Names of cells that are no longer planned; their results stay."""
    finished: frozenset[str]
    """Keys of planned cells that are complete or abandoned."""
    cells: int
    """Planned cells."""
    processes: int
    """Planned processes, including those that early stopping may still skip."""
    processes_left: int
    left_s: float | None
    """Estimated from the pace so far; None without one."""

    @property
    def complete(self) -> int:
        """The number of complete cells."""
        return len(self.finished)

    def sentence(self, serial: str, *, is_shared: bool = False) -> str:
        """Summarize what is done and what remains; `is_shared` marks the rest as an upper bound."""
        done, left = self.processes - self.processes_left, self.cells - self.complete
        kept = (
            f"{serial}: {self.complete} of {self.cells} cells are complete, {done} of {self.processes} processes done"
        )
        if not left:
            return f"{kept}; nothing remains."
        pace = "" if self.left_s is None else f", about {max(1, round(self.left_s / 60))} min at the pace so far"
        most = "at most " if is_shared else ""
        what = f"with {pluralize(self.processes_left, 'process', 'es')}" if self.processes_left else "to be checked"
        return f"{kept}; {most}{pluralize(left, 'cell')} {what} remain{pace}."

    def as_json(self) -> dict[str, object]:
        """Return the counts and the results that cannot be reused, as JSON values."""
        return {
            "cells": self.cells,
            "cells_complete": self.complete,
            "processes": self.processes,
            "processes_left": self.processes_left,
            "left_s": self.left_s,
            "set_aside": [{"cell": self.names[key], "why": why} for key, why in self.set_aside.items()],
            "left_out": list(self.left_out),
        }

    def reasons(self, serial: str) -> list[str]:
        """List the results that cannot be reused, with the reason, and those no longer in the spec."""
        groups: dict[str, list[str]] = {}
        for key, reason in self.set_aside.items():
            groups.setdefault(reason, []).append(self.names[key])
        told = [
            f"{serial}: measuring again because {reason}: {', '.join(sorted(names))}."
            for reason, names in groups.items()
        ]
        if self.left_out:
            told.append(f"{serial}: no longer in the spec, results kept: {', '.join(self.left_out)}.")
        return told


def read_state(
    store: StoreReader,
    sweep_id: str,
    cells: Sequence[Cell],
    measurement: MeasurementSettings,
    *,
    evidence_sha256: str | None,
) -> ResumeState:
    """Load one device's stored progress on its planned cells.

    `evidence_sha256` is what outputs are checked with, `UNKNOWN`, or None: not at all.
    """
    serials = {cell.serial for cell in cells}
    stored = {cell.key: cell for cell in store.cells(sweep_id) if cell.serial in serials}
    rows = [row for row in store.invocations(sweep_id, telemetry=False) if row.cell_key in stored]
    last = {row.key: row for row in rows}
    checks = store.accuracies(sweep_id)
    accuracies = {row.cell_key: row for row in checks}  # the last attempt wins
    failed_checks = Counter((row.cell_key, row.failure_class) for row in checks)
    failed = Counter((*row.key, row.failure_class) for row in rows)
    reopened = frozenset(
        place
        for place, row in last.items()
        if _was_cut_short(row, measurement)
        or (place[1] in _IN_BLOCKS and _has_tries(row, failed[*place, row.failure_class]))
    )
    done = {place for place, row in last.items() if is_final(row.failure_class)} - reopened
    stale = frozenset(
        key
        for key, row in accuracies.items()
        if _was_checked_otherwise(row, evidence_sha256) or _has_tries(row, failed_checks[key, row.failure_class])
    )
    checked = {key for key, row in accuracies.items() if is_final(row.failure_class)} - stale
    planned = {cell.key for cell in cells}
    abandoned = frozenset(place[0] for place in done if place[1] in _IN_BLOCKS and _ends_cell(last[place]))
    places = _places(cells, measurement, Stopping(measurement, rows))
    left = [place for place in places if place not in done and place[0] not in abandoned]
    unchecked = planned - checked - abandoned if evidence_sha256 is not None else set()
    now = {tuple(getattr(cell, name) for name in IDENTITY): cell for cell in cells}
    others = {
        key: now.get(tuple(getattr(row, name) for name in IDENTITY))
        for key, row in stored.items()
        if key not in planned
    }
    names = {key: f"{row.variant_name} {row.delegate}" for key, row in stored.items()}
    return ResumeState(
        is_any=bool(rows or accuracies.keys() & stored),
        reopened=reopened,
        stale_checks=stale,
        abandoned=abandoned,
        next_block=1 + max((row.block for row in rows if row.purpose in _IN_BLOCKS), default=-1),
        set_aside={key: what_changed(stored[key].cell, cell) for key, cell in others.items() if cell},
        names=names,
        left_out=sorted(names[key] for key, cell in others.items() if cell is None),
        finished=frozenset(planned - {key for key, _, _ in left} - unchecked),
        cells=len(planned),
        processes=len(places),
        processes_left=len(left),
        left_s=_left_s(rows, len(left)),
    )


def preview(store: StoreReader, record: SweepRecord, spec: SweepSpec) -> dict[str, ResumeState]:
    """Preview, without touching a device, what each device could reuse under `spec`.

    Assumes that tool, cores, preparation and known variants are unchanged; the resumed sweep reports what differs.
    """
    devices: dict[str, list[Cell]] = {}
    for stored in store.cells(record.id):
        if stored.key not in record.set_aside:
            devices.setdefault(stored.serial, []).append(stored.cell)
    evidence = UNKNOWN if spec.measurement.accuracy_samples else None
    tools = {tool.sha256: Tool.model_validate(tool.facts) for tool in store.tools(record.id)}
    return {
        serial: read_state(
            store,
            record.id,
            _expected_cells(cells, spec),
            measured_by(tools[cells[0].tool_sha256], spec.measurement),
            evidence_sha256=evidence,
        )
        for serial, cells in devices.items()
        if not spec.devices or serial in spec.devices
    }


def _expected_cells(stored: Sequence[Cell], spec: SweepSpec) -> list[Cell]:
    """Return the cells that a spec plans for one device; those of a new variant have no hash yet."""
    example = stored[0]
    hashes = {cell.variant_name: cell.variant_sha256 for cell in stored}
    modes = {(cell.variant_name, cell.delegate, cell.threads): cell.mode for cell in stored}
    delegates = spec.delegates or tuple(dict.fromkeys(cell.delegate for cell in stored))
    recipes = [find_recipe(name).name for name in spec.recipes]
    return [
        replace(
            example,
            variant_name=recipe,
            variant_sha256=hashes.get(recipe, UNKNOWN),
            delegate=delegate,
            threads=threads,
            mode={**modes.get((recipe, delegate, threads), example.mode), **mode_of(spec.measurement)},
        )
        for recipe in recipes
        for delegate in delegates
        for threads in spec.threads
    ]


_IN_BLOCKS = (Pass.LATENCY, Pass.MEMORY, Pass.OP_PROFILE)
"""Passes that are planned in blocks; a cell that fails in any of them is abandoned."""


def _was_cut_short(row: InvocationRow, measurement: MeasurementSettings) -> bool:
    """Return True if the process timed out under a shorter limit than the current one."""
    return row.failure_class == FailureClass.TIMEOUT and float(row.wall_s) < measurement.timeout_s


def _was_checked_otherwise(row: AccuracyRow, evidence_sha256: str | None) -> bool:
    stored = (row.check or {}).get("evidence_sha256")
    known = stored is not None and evidence_sha256 not in (None, UNKNOWN)
    return known and stored != evidence_sha256


def _has_tries(row: InvocationRow | AccuracyRow, times: int) -> bool:
    """Return True if retries were left when the sweep was interrupted."""
    return row.failure_class is not None and times < RULES[FailureClass(row.failure_class)].tries


def _ends_cell(row: InvocationRow) -> bool:
    return row.failure_class is not None and RULES[FailureClass(row.failure_class)].ends_cell


def _places(cells: Sequence[Cell], measurement: MeasurementSettings, stopping: Stopping) -> list[InvocationKey]:
    """Return all planned invocations, without those that early stopping skips."""
    planned = [one for one in plan_invocations(cells, measurement, seed=0) if not stopping.is_enough(one)]
    windows = range(window_count(measurement))
    return [(one.cell.key, one.purpose, one.index) for one in planned] + [
        (cell.key, Pass.SUSTAINED, index) for cell in cells for index in windows
    ]


def what_changed(old: Cell, new: Cell) -> str:
    """Describe the conditions in which two cells of one name differ."""
    before, after = asdict(old), asdict(new)
    return "; ".join(contrast(name, before[name], after[name]) for name in before if before[name] != after[name])


def _left_s(rows: Sequence[InvocationRow], processes: int) -> float | None:
    """Estimate the time of some processes from the median time between starts, which ignores pauses."""
    starts = sorted(datetime.fromisoformat(row.started_at_utc).timestamp() for row in rows)
    steps = [later - earlier for earlier, later in pairwise(starts)]
    return processes * median(steps) if steps else None
