"""What a sweep that is carried on brings along: what of it counts as it is, what cannot, why, and what remains.

Content decides, never a name: a cell's key is a hash of the variant, the tool, the cores, the profile, the mode and the
preparation. What was measured under another key stays as it is and is set aside; it is never mixed with what is new.
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
"""Stands for a hash that cannot be told yet."""
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
    """Say which sweep is carried on, and with which settings changed."""
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
    """Raise `DeviceError` where a device that has results in this sweep runs another system by now.

    The system stands once for each device of a sweep, so that older results would seem to come from the newer one.
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
    """What earlier sittings of a sweep left of one device."""

    is_any: bool
    """Whether anything was measured."""
    reopened: frozenset[InvocationKey]
    """Invocations that are made again: they were cut short and have longer now, or were to be tried once more."""
    stale_checks: frozenset[str]
    """Keys of cells whose outputs are checked again: with other samples or limits, or it was to be tried once more."""
    abandoned: frozenset[str]
    """Keys of cells of which no more is run."""
    next_block: int
    """Blocks are counted on: what is measured now was not measured in turns with what was measured then."""
    set_aside: Mapping[str, str]
    """Keys of cells that are planned under other conditions by now, and what changed."""
    names: Mapping[str, str]
    """Their names."""
    left_out: Sequence[str]
    """Names of cells that are not planned any more; they stay as they are."""
    finished: frozenset[str]
    """Keys of planned cells that need nothing more, or were given up."""
    cells: int
    """Planned cells."""
    processes: int
    """Planned processes; those that end sooner when a cell is known well enough are among them until it is."""
    processes_left: int
    left_s: float | None
    """By the pace so far; None where there was none."""

    @property
    def complete(self) -> int:
        """Return how many those are."""
        return len(self.finished)

    def sentence(self, serial: str, *, is_shared: bool = False) -> str:
        """Say what is there and what remains; of a phone that shares its work with others, that is the most."""
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
        """Return the numbers, and what cannot be reused and why, as JSON values."""
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
        """Say which results cannot be reused and why, and which are not asked for any more."""
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
    """Return what is stored of a device whose planned cells are given; they are all of one serial.

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
    """Return what each device of a stored sweep would bring along under a spec, as far as it can be told at once.

    No device is asked and no variant is made: tool, cores, preparation and the bytes of known variants are taken to be
    as they were. What turns out to differ is told when the sweep is carried on.
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
    """Return the cells that a spec asks for of one device; those of a new variant have no hash yet."""
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
"""Passes that are planned in blocks; a cell that fails in any of them is given up."""


def _was_cut_short(row: InvocationRow, measurement: MeasurementSettings) -> bool:
    """Tell whether a process took less than the time that it now has."""
    return row.failure_class == FailureClass.TIMEOUT and float(row.wall_s) < measurement.timeout_s


def _was_checked_otherwise(row: AccuracyRow, evidence_sha256: str | None) -> bool:
    stored = (row.check or {}).get("evidence_sha256")
    known = stored is not None and evidence_sha256 not in (None, UNKNOWN)
    return known and stored != evidence_sha256


def _has_tries(row: InvocationRow | AccuracyRow, times: int) -> bool:
    """Tell whether what failed so many times would have been tried again, had harness not ended."""
    return row.failure_class is not None and times < RULES[FailureClass(row.failure_class)].tries


def _ends_cell(row: InvocationRow) -> bool:
    return row.failure_class is not None and RULES[FailureClass(row.failure_class)].ends_cell


def _places(cells: Sequence[Cell], measurement: MeasurementSettings, stopping: Stopping) -> list[InvocationKey]:
    """Return what is to be done in all, without what is not needed since a cell is known well enough."""
    planned = [one for one in plan_invocations(cells, measurement, seed=0) if not stopping.is_enough(one)]
    windows = range(window_count(measurement))
    return [(one.cell.key, one.purpose, one.index) for one in planned] + [
        (cell.key, Pass.SUSTAINED, index) for cell in cells for index in windows
    ]


def what_changed(old: Cell, new: Cell) -> str:
    """Return the conditions in which two cells of one name differ, as a few words each."""
    before, after = asdict(old), asdict(new)
    return "; ".join(contrast(name, before[name], after[name]) for name in before if before[name] != after[name])


def _left_s(rows: Sequence[InvocationRow], processes: int) -> float | None:
    """Return the time of some processes by the usual time from one start to the next; a pause is not usual."""
    starts = sorted(datetime.fromisoformat(row.started_at_utc).timestamp() for row in rows)
    steps = [later - earlier for earlier, later in pairwise(starts)]
    return processes * median(steps) if steps else None
