"""The rows that the store hands out, typed, and the values that it stores as rows.

JSON columns are mappings: what they hold depends on the device and on the version of harness that wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Table

from harness.accuracy.outcome import AccuracyOutcome, Proportion
from harness.benchmark.invocation import Invocation, Measurement, Pass
from harness.errors import Failure, FailureClass, is_final
from harness.store import schema
from harness.store.records import Cell, SweepRecord
from harness.text import utc_text
from harness.tflite.variant import VariantFidelity

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _FailureColumns:
    """All three are None if nothing failed."""

    failure_class: str | None = None
    failure_message: str | None = None
    failure_evidence: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row by column, the failure last, as its table has it."""
        values = dict(vars(self))
        failure = {name: values.pop(name) for name in ("failure_class", "failure_message", "failure_evidence")}
        return values | failure

    @property
    def failure(self) -> Failure | None:
        """Return the failure that the row holds."""
        if self.failure_class is None:
            return None
        failure_class = FailureClass(self.failure_class)
        return Failure(failure_class, self.failure_message or "", self.failure_evidence or "")


@dataclass(frozen=True, kw_only=True)
class DeviceRow(_FailureColumns):
    """One device of a sweep."""

    sweep_id: str
    serial: str
    title: str
    kind: str | None = None
    profile: str | None = None
    labels: Sequence[str] = ()
    facts: JsonObject | None = None
    preparation: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class VariantRow(_FailureColumns):
    """One recipe of a sweep, also if it gave no variant."""

    sweep_id: str
    name: str
    sha256: str | None = None
    size_bytes: int | None = None
    gzip_size_bytes: int | None = None
    card: JsonObject | None = None

    @property
    def fidelity(self) -> VariantFidelity | None:
        """Return how near the variant is to the float model; None if that was never looked at."""
        stored = (self.card or {}).get("fidelity")
        return VariantFidelity.model_validate(stored) if stored else None


@dataclass(frozen=True, kw_only=True)
class ToolRow:
    """One binary that measured."""

    sweep_id: str
    sha256: str
    name: str
    family: str
    facts: JsonObject


@dataclass(frozen=True, kw_only=True)
class CellRow:
    """One cell with the key under which it was stored."""

    sweep_id: str
    key: str
    variant_name: str
    variant_sha256: str
    serial: str
    delegate: str
    threads: int
    tool_sha256: str
    core_mask: str | None
    profile: str
    mode: JsonObject

    @property
    def cell(self) -> Cell:
        """Return the cell, whose own key follows from its fields."""
        return Cell(**{name: value for name, value in vars(self).items() if name not in ("sweep_id", "key")})


@dataclass(frozen=True, kw_only=True)
class InvocationRow(_FailureColumns):
    """One finished process: one attempt of one invocation."""

    id: int
    sweep_id: str
    cell_key: str
    purpose: str
    """A `Pass`."""
    invocation_index: int
    attempt: int
    block: int
    started_at_utc: str
    wall_s: float
    command: Sequence[str]
    log_path: str
    labels: Sequence[str] = ()
    telemetry_before: JsonObject | None = None
    telemetry_during: JsonObject | None = None
    telemetry_after: JsonObject | None = None
    gate: JsonObject | None = None
    cores_allowed: str | None = None
    delegate_achieved: str | None = None
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    partitions: int | None = None
    fell_back: bool | None = None
    fell_back_reason: str | None = None
    runs: int | None = None
    latency_avg_us: float | None = None
    latency_median_us: float | None = None
    latency_min_us: float | None = None
    latency_max_us: float | None = None
    latency_std_us: float | None = None
    init_us: float | None = None
    first_inference_us: float | None = None
    warmup_asked_runs: int | None = None
    warmup_converged: bool | None = None
    warmup_runs: int | None = None
    warmup_window_us: float | None = None
    timed_window_us: float | None = None
    memory_init_mb: float | None = None
    memory_overall_mb: float | None = None
    peak_memory_mb: float | None = None
    operators: Sequence[JsonObject] | None = None

    @property
    def key(self) -> tuple[str, Pass, int]:
        """Return what every attempt of this invocation shares within its sweep."""
        return self.cell_key, Pass(self.purpose), self.invocation_index

    @property
    def latency_us(self) -> float | None:
        """Return the latency of the process: its median if the tool prints one, else its average."""
        return self.latency_avg_us if self.latency_median_us is None else self.latency_median_us


@dataclass(frozen=True, kw_only=True)
class AccuracyRow(_FailureColumns):
    """One attempt of the accuracy pass of a cell."""

    id: int
    sweep_id: str
    cell_key: str
    attempt: int
    wall_s: float
    log_path: str
    samples_per_process: int
    note: str
    samples: int | None = None
    top1: float | None = None
    top1_low: float | None = None
    top1_high: float | None = None
    top5: float | None = None
    top5_low: float | None = None
    top5_high: float | None = None
    agreement: float | None = None
    agreement_low: float | None = None
    agreement_high: float | None = None
    float_top1: float | None = None
    check_passed: bool | None = None
    check: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """One file of a tool or variant as a device read it (promise H24)."""

    path: str
    owner_sha256: str
    """The tool or variant that the file belongs to."""
    sha256: str
    """Of the file that was pushed."""
    found_sha256: str | None
    """Of the file on the device; None if it was gone."""

    @property
    def passed(self) -> bool:
        """Return True if the file is what was pushed."""
        return self.found_sha256 == self.sha256


@dataclass(frozen=True, kw_only=True)
class FileCheckRow(FileCheck):
    """One such check, as it is stored."""

    id: int
    sweep_id: str
    serial: str
    checked_at_utc: str
    last_invocation_id: int
    last_accuracy_id: int
    """The last rows of the device that were stored by then; later ones wait for the next check."""


AnyStoredRow = DeviceRow | VariantRow | ToolRow | CellRow | InvocationRow | AccuracyRow


@dataclass(frozen=True)
class SweepRows:
    """The rows of one sweep by table, each in the order of its primary key."""

    sweep_id: str
    record: SweepRecord | None = None
    devices: Sequence[DeviceRow] = ()
    variants: Sequence[VariantRow] = ()
    tools: Sequence[ToolRow] = ()
    cells: Sequence[CellRow] = ()
    invocations: Sequence[InvocationRow] = ()
    """Every attempt, in the order of time."""
    accuracies: Sequence[AccuracyRow] = ()
    """Every attempt, in the order of time."""
    file_checks: Sequence[FileCheckRow] = ()
    """In the order of time; none in sweeps of versions that did not check."""

    def finite(self) -> SweepRows:
        """Return the rows with None for every number that is not finite, such as a tool's infinite memory."""
        return replace(
            self,
            invocations=[finite(row) for row in self.invocations],
            accuracies=[finite(row) for row in self.accuracies],
        )


Finite = TypeVar("Finite", InvocationRow, AccuracyRow)


def finite(row: Finite) -> Finite:
    """Return a row with None for every number that is not finite."""
    bad: dict[str, Any] = {
        name: None for name, value in vars(row).items() if isinstance(value, float) and not math.isfinite(value)
    }
    return replace(row, **bad) if bad else row


@dataclass(frozen=True)
class TimeSpent:
    """The time that the processes of one cell took."""

    sweep_id: str
    cell_key: str
    seconds: float
    processes: int


@dataclass(frozen=True, kw_only=True)
class NightDevice:
    """What a history needs of one device in one sweep."""

    sweep_id: str
    serial: str
    title: str
    labels: Sequence[str]
    failure_class: str | None
    fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class NightVariant:
    """What a history needs of one variant in one sweep."""

    sweep_id: str
    name: str
    size_bytes: int | None
    model: str | None
    fidelity: str | None
    """A `FidelityOutcome`."""


@dataclass(frozen=True, kw_only=True)
class NightAccuracy:
    """What a history needs of one accuracy pass."""

    sweep_id: str
    cell_key: str
    check_passed: bool | None
    top1: float | None
    top1_low: float | None
    top1_high: float | None
    failure_class: str | None


@dataclass(frozen=True, kw_only=True)
class NightInvocation:
    """What a history needs of one process of the latency or the memory pass."""

    sweep_id: str
    cell_key: str
    purpose: str
    invocation_index: int
    block: int
    failure_class: str | None
    latency_median_us: float | None
    latency_avg_us: float | None
    fell_back: bool | None
    delegate_achieved: str | None
    peak_memory_mb: float | None
    memory_overall_mb: float | None


@dataclass(frozen=True)
class FinishedInvocation:
    """One finished process of a cell, as it is handed to the store."""

    purpose: Pass
    index: int
    block: int
    invocation: Invocation
    started_at: datetime
    telemetry_before: JsonObject | None = None
    telemetry_during: JsonObject | None = None
    telemetry_after: JsonObject | None = None
    gate: JsonObject | None = None
    labels: Sequence[str] = ()
    warmup_asked_runs: int | None = None
    warmup_converged: bool | None = None


def invocation_values(finished: FinishedInvocation) -> dict[str, Any]:
    """Spread a finished process over the columns of `invocations`, those of its identity aside."""
    invocation = finished.invocation
    looks = {name: getattr(finished, name) for name in ("telemetry_before", "telemetry_during", "telemetry_after")}
    objects = {
        name: None if value is None else dict(value) for name, value in (looks | {"gate": finished.gate}).items()
    }
    return {
        "purpose": finished.purpose,
        "invocation_index": finished.index,
        "block": finished.block,
        "started_at_utc": utc_text(finished.started_at),
        "wall_s": invocation.wall_s,
        "command": list(invocation.command),
        "labels": list(finished.labels),
        **objects,
        "cores_allowed": invocation.cores_allowed,
        "warmup_asked_runs": finished.warmup_asked_runs,
        "warmup_converged": finished.warmup_converged,
        **_measurement_values(invocation.measurement),
        **failure_values(invocation.failure),
    }


def _measurement_values(measurement: Measurement | None) -> dict[str, Any]:
    """Spread a measurement over the columns of `invocations`."""
    if measurement is None:
        return {}
    delegation = measurement.delegation
    values = asdict(measurement) | {
        "delegate_achieved": delegation.achieved,
        "delegated_nodes": delegation.delegated_nodes,
        "total_nodes": delegation.total_nodes,
        "partitions": delegation.partitions,
        "fell_back": delegation.fell_back,
        "fell_back_reason": delegation.reason,
    }
    return only_columns(schema.invocations, values)


def accuracy_values(outcome: AccuracyOutcome) -> dict[str, Any]:
    """Spread an accuracy outcome over the columns of `accuracies`."""
    values: dict[str, Any] = {}
    if outcome.check:
        values |= {"check_passed": outcome.check.passed, "check": asdict(outcome.check)}
    accuracy = outcome.accuracy
    if accuracy:
        values |= {"samples": accuracy.samples, "float_top1": accuracy.float_top1}
        values |= _proportion("top1", accuracy.top1) | _proportion("agreement", accuracy.agreement)
        values |= _proportion("top5", accuracy.top5) if accuracy.top5 else {}
    return values


def _proportion(name: str, proportion: Proportion) -> dict[str, float]:
    return {name: proportion.value, f"{name}_low": proportion.low, f"{name}_high": proportion.high}


def failure_values(failure: Failure | None) -> dict[str, Any]:
    """Spread a failure over its three columns, which several tables have."""
    if failure is None:
        return {}
    return {
        "failure_class": failure.failure_class,
        "failure_message": failure.message,
        "failure_evidence": failure.evidence,
    }


def tampered(check: FileCheck) -> Failure:
    """Return the failure of what was measured with a file that is not what was pushed."""
    what = "is gone" if check.found_sha256 is None else "was changed on the device meanwhile"
    message = f"Cannot confirm what was measured: {check.path} {what}."
    return Failure(FailureClass.TAMPERED, message, f"SHA-256 {check.sha256} pushed, {check.found_sha256} found")


def only_columns(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the table has no column for."""
    return {name: value for name, value in values.items() if name in table.c}


Attempt = TypeVar("Attempt", InvocationRow, NightInvocation)


def counting_attempts(invocations: Iterable[Attempt]) -> list[Attempt]:
    """Return the last attempt of each process, then earlier timed attempts that failed by their cell's own fault.

    Those give no number but still count: a cell that crashes now and then must not be shipped. The rows come in the
    order of time.
    """
    rows: list[Attempt] = list(invocations)
    latest: dict[tuple[object, ...], Attempt] = {_place(row): row for row in rows}
    own_faults: list[Attempt] = [
        row
        for row in rows
        if row.purpose == Pass.LATENCY
        and row.failure_class is not None
        and is_final(row.failure_class)
        and latest[_place(row)] is not row
    ]
    return list(latest.values()) + own_faults


def _place(row: InvocationRow | NightInvocation) -> tuple[object, ...]:
    return row.sweep_id, row.cell_key, row.purpose, row.invocation_index
