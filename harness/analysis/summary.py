"""One row per cell: what was asked, what ran, how fast, how good, and what the row is worth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import fsum
from typing import Any

import numpy as np

from harness.analysis.result_row import ResultRow
from harness.analysis.statistics import (
    Estimate,
    drift,
    median,
    median_with_interval,
    outliers,
    relative_spread,
    within_spread,
)
from harness.analysis.verdict import Facts, Verdict, judge_cell, rank
from harness.benchmark.delegates import is_cpu
from harness.benchmark.invocation import ExecutedBy, Pass
from harness.benchmark.program import keeps_cache
from harness.errors import Failure, FailureClass, is_final
from harness.store.reader import StoreReader
from harness.store.rows import (
    AccuracyRow,
    CellRow,
    DeviceRow,
    FileCheckRow,
    InvocationRow,
    SweepRows,
    VariantRow,
    counting_attempts,
)
from harness.tflite.variant import VariantFidelity

Values = dict[str, Any]
"""Some fields of a `ResultRow`."""


def summarize(store: StoreReader, sweep_id: str) -> list[ResultRow]:
    """Return the summary of one sweep, by device and rank.

    Recipes that gave no variant and devices that could not be measured have a row of their own, so that nothing
    vanishes.
    """
    (sweep,) = store.read_sweeps([sweep_id])
    return summary_rows(sweep)


def summary_rows(sweep: SweepRows) -> list[ResultRow]:
    """Return the rows of `summarize` for a sweep that was already read."""
    devices = {device.serial: device for device in sweep.devices}
    families = {tool.sha256: tool.family for tool in sweep.tools}
    set_aside = sweep.record.set_aside if sweep.record else {}
    sittings = sweep.record.sittings if sweep.record else []
    invocations = _by_cell(counting_attempts(sweep.invocations))
    accuracies = {row.cell_key: row for row in sweep.accuracies}  # the last attempt wins
    looks = last_looks(sweep.file_checks)
    rows: list[ResultRow] = []
    latencies: dict[str, dict[int, Estimate]] = {}
    for cell in sweep.cells:
        cell_invocations = invocations.get(cell.key, [])
        variant = variant_of(cell, sweep.variants)
        fidelity = variant.fidelity if variant else None
        row, latency = _cell_row(
            cell,
            families.get(cell.tool_sha256, ""),
            cell_invocations,
            accuracies.get(cell.key),
            devices.get(cell.serial),
            set_aside.get(cell.key),
            looks,
            fidelity,
        )
        if variant:
            row = replace(row, size_bytes=variant.size_bytes, gzip_size_bytes=variant.gzip_size_bytes)
        row = replace(row, sittings=_sittings(cell_invocations, sittings))
        if latency and row.verdict == Verdict.RANKED:
            latencies.setdefault(cell.serial, {})[len(rows)] = latency
        rows.append(row)
    for device_latencies in latencies.values():
        for index, place in rank(device_latencies).items():
            rows[index] = replace(rows[index], rank=place.place, tied=place.tied, fastest=place.place == 1)
    rows += _rows_of_failed_devices(devices.values(), rows) + _rows_of_failed_variants(sweep.variants)
    return sorted(rows, key=_order)


def _order(row: ResultRow) -> tuple[object, ...]:
    last = float("inf")
    latency = row.latency_median_us or last
    return row.device is None, row.device or "", row.serial or "", row.rank or last, latency, row.variant or ""


def _by_cell(invocations: Iterable[InvocationRow]) -> dict[str, list[InvocationRow]]:
    cells: dict[str, list[InvocationRow]] = {}
    for row in invocations:
        cells.setdefault(row.cell_key, []).append(row)
    return cells


def _sittings(invocations: Sequence[InvocationRow], sittings: Sequence[datetime]) -> str | None:
    """Return the numbers of the sessions in which latency was measured, counted from 1, such as `1, 3`."""
    starts = [
        datetime.fromisoformat(row.started_at_utc)
        for row in invocations
        if row.purpose == Pass.LATENCY and row.failure_class is None
    ]
    numbers = sorted({max(1, bisect_right(sittings, start)) for start in starts})
    return ", ".join(map(str, numbers)) or None


def _cell_row(
    cell: CellRow,
    tool_family: str,
    invocations: Sequence[InvocationRow],
    accuracy: AccuracyRow | None,
    device: DeviceRow | None,
    set_aside: str | None,
    looks: Mapping[tuple[str, str], FileCheckRow],
    fidelity: VariantFidelity | None,
) -> tuple[ResultRow, Estimate | None]:
    passes = {purpose: [row for row in invocations if row.purpose == purpose] for purpose in Pass}
    measured = [row for row in passes[Pass.LATENCY] if row.failure_class is None]
    failed = [row for row in passes[Pass.LATENCY] if row.failure_class is not None]
    delegation = _proven_delegation(measured, passes[Pass.OP_PROFILE])
    latency_of, latency = _latency(measured)
    tried = [*failed, *passes[Pass.MEMORY], *passes[Pass.SUSTAINED], *([accuracy] if accuracy else [])]
    own, of_device = [row.failure for row in tried if row.failure], device.failure if device else None
    of_variant = fidelity.failure(cell.variant_name) if fidelity else None
    verdict = judge_cell(
        Facts(
            is_cpu=is_cpu(cell.delegate),
            fell_back=delegation.fell_back if delegation else None,
            check_passed=accuracy.check_passed if accuracy else None,
            invocations_ok=len(measured),
            invocations_failed=sum(is_final(row.failure_class) for row in failed),
            has_failure=bool(own or of_device),
            fidelity=fidelity.outcome if fidelity else None,
            is_set_aside=set_aside is not None,
            is_tampered=any(failure.failure_class is FailureClass.TAMPERED for failure in own),
            is_unconfirmed=not is_confirmed(cell, invocations, accuracy, looks),
            is_mixed=len({row.delegate_achieved for row in measured}) > 1,
        )
    )
    row = ResultRow(
        sweep_id=cell.sweep_id,
        variant=cell.variant_name,
        variant_sha256=cell.variant_sha256,
        delegate_requested=cell.delegate,
        threads=cell.threads,
        core_mask=cell.core_mask,
        tool_sha256=cell.tool_sha256,
        cell_key=cell.key,
        invocations_ok=len(measured),
        invocations_failed=len(failed),
        latency_of=latency_of,
        latency_median_us=latency.value if latency else None,
        latency_low_us=latency.low if latency else None,
        latency_high_us=latency.high if latency else None,
        init_median_us=median(_values(measured, "init_us")),
        first_inference_median_us=median(_values(measured, "first_inference_us")),
        memory_overall_mb=median(_values(passes[Pass.MEMORY], "memory_overall_mb")),
        memory_peak_mb=median(_values(passes[Pass.MEMORY], "peak_memory_mb")),
        delegate_time_share=share_in_delegate(operator_shares(passes[Pass.OP_PROFILE])),
        verdict=str(verdict),
        set_aside=set_aside,
        **_device_values(device) | {"serial": cell.serial, "profile": cell.profile},
        **{name: getattr(delegation, name) for name in _DELEGATION if delegation},
        **_spreads(measured, latency_column(latency_of)),
        **_warm_up(measured),
        **_init(tool_family, passes[Pass.INIT_COLD], passes[Pass.INIT_WARM]),
        **_sustained(passes[Pass.SUSTAINED]),
        **(_accuracy_values(accuracy) if accuracy else {}),
        **(_fidelity_values(fidelity) if fidelity else {}),
        **_failure_values(
            of_variant if verdict is Verdict.ACCURACY_LOST else _failure_of(verdict, cell, delegation, own, of_device)
        ),
    )
    return row, latency


_DELEGATION = ("delegate_achieved", "delegated_nodes", "total_nodes", "partitions", "fell_back")


def last_looks(checks: Iterable[FileCheckRow]) -> dict[tuple[str, str], FileCheckRow]:
    """Return the last look at each tool and variant on each device, by serial and SHA-256."""
    return {(check.serial, check.owner_sha256): check for check in checks}


def is_confirmed(
    cell: CellRow,
    invocations: Iterable[InvocationRow],
    accuracy: AccuracyRow | None,
    looks: Mapping[tuple[str, str], FileCheckRow],
) -> bool:
    """Return True if tool and variant were looked at after all that a cell measured, or never: by an older version."""
    last = [
        looks[cell.serial, sha256]
        for sha256 in (cell.tool_sha256, cell.variant_sha256)
        if (cell.serial, sha256) in looks
    ]
    newest = max((row.id for row in invocations), default=0)
    return all(
        newest <= look.last_invocation_id and (accuracy is None or accuracy.id <= look.last_accuracy_id)
        for look in last
    )


def _worst_delegation(measured: Sequence[InvocationRow]) -> InvocationRow | None:
    """Return the invocation that stands for the cell: one that fell back, else one that proves nothing, else any."""
    severity = {True: 0, None: 1, False: 2}
    return min(measured, key=lambda row: (severity[row.fell_back], row.delegated_nodes or 0), default=None)


def _proven_delegation(measured: Sequence[InvocationRow], profiled: Sequence[InvocationRow]) -> InvocationRow | None:
    """Return the invocation that shows where a cell ran: a profiled one if no log of a timed process proves it."""
    worst = _worst_delegation(measured)
    if worst is None or worst.fell_back is not None:
        return worst
    return _worst_delegation([row for row in profiled if row.fell_back is not None]) or worst


def _latency(measured: Sequence[InvocationRow]) -> tuple[str | None, Estimate | None]:
    """Return which value of an invocation stands for it, and the median of those values.

    One kind for all invocations of a cell: medians only if each has one.
    """
    if not measured:
        return None, None
    kind = "median" if all(row.latency_median_us is not None for row in measured) else "average"
    return kind, median_with_interval(_values(measured, latency_column(kind)))


def _spreads(measured: Sequence[InvocationRow], column: str) -> Values:
    """Return how invocations lie apart, how iterations do, what stands out, and what changed steadily."""
    latencies = _values(measured, column)
    change = drift(latencies)
    return {
        "latency_spread": relative_spread(latencies),
        "latency_within_spread": within_spread(latencies, [row.latency_std_us for row in measured]),
        "latency_outliers": sum(outliers(latencies)),
        "latency_drift": change.change if change and change.is_certain else None,
    }


def _warm_up(measured: Sequence[InvocationRow]) -> Values:
    """Return what was asked of the last process: all of a cell are asked alike, but for a sweep that was resumed."""
    if not measured:
        return {}
    return {"warmup_runs": measured[-1].warmup_asked_runs, "warmup_converged": measured[-1].warmup_converged}


def _init(tool_family: str, cold: Sequence[InvocationRow], warm: Sequence[InvocationRow]) -> Values:
    """Return what loading took in pairs of processes; failed ones hold no value."""
    return {
        "init_cold_us": median(_values(cold, "init_us")),
        "init_warm_us": median(_values(warm, "init_us")),
        "init_cached": any(keeps_cache(tool_family, row.command) for row in cold) if cold else None,
    }


def _sustained(windows: Sequence[InvocationRow]) -> Values:
    """Return the curve of the last sustained run, and how far its end is from its start."""
    curve: list[float] = []
    last_id = 0
    for row in windows:
        if row.failure_class is not None or row.id < last_id:  # a run that was made again ended earlier
            break
        last_id = row.id
        curve += [] if row.latency_us is None else [row.latency_us]
    return {
        "sustained_curve_us": curve or None,
        "sustained_change": curve[-1] / curve[0] - 1 if len(curve) > 1 else None,
    }


def latency_column(latency_of: str | None) -> str:
    """Return the column of `invocations` that `latency_of` speaks of."""
    return "latency_median_us" if latency_of == "median" else "latency_avg_us"


def _values(rows: Iterable[InvocationRow], column: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, column)) is not None]


def _accuracy_values(accuracy: AccuracyRow) -> Values:
    top1, float_top1 = accuracy.top1, accuracy.float_top1
    names = ("samples", "top1", "top1_low", "top1_high", "top5", "float_top1", "agreement")
    return {
        **{name: getattr(accuracy, name) for name in names},
        "accuracy_drop_points": None if top1 is None or float_top1 is None else 100 * (float_top1 - top1),
        "output_check": accuracy.check_passed,
        "accuracy_note": accuracy.note or None,
    }


def _fidelity_values(fidelity: VariantFidelity) -> Values:
    """Return the worst of each figure over all outputs, and on what, or why there are none."""
    worst = fidelity.worst
    return {
        "fidelity_snr_db": worst.snr_db,
        "fidelity_cosine": worst.cosine,
        "fidelity_range_kept": worst.range_kept,
        "fidelity_agreement": worst.agreement,
        "fidelity_inputs": fidelity.inputs or None,
        "fidelity_note": fidelity.reason if not fidelity.outputs else None,
    }


def _failure_of(
    verdict: Verdict,
    cell: CellRow,
    delegation: InvocationRow | None,
    own: Sequence[Failure],
    device: Failure | None,
) -> Failure | None:
    """Return the failure that explains the verdict. What was measured in full is not spoilt by a phone lost later."""
    of_the_cell = [failure for failure in own if is_final(failure.failure_class)]
    from_outside = [failure for failure in own if not is_final(failure.failure_class)]
    if verdict is Verdict.SET_ASIDE:  # what counts is another row's
        return None
    if verdict in (Verdict.WRONG_OUTPUT, Verdict.TAMPERED):
        unsaid = Failure(FailureClass.WRONG_OUTPUT, "The outputs differ from the host's.")
        return next((failure for failure in own if failure.failure_class == verdict.value), unsaid)
    if verdict is Verdict.FELL_BACK and delegation:
        return _fall_back(cell, delegation)
    if verdict is Verdict.UNRELIABLE and not of_the_cell and delegation:
        message = (
            f"{cell.delegate} was asked for, and some processes ran on {delegation.delegate_achieved}, some did not."
        )
        return Failure(FailureClass.FELL_BACK, message, delegation.fell_back_reason or "")
    if verdict is Verdict.RANKED:
        return next(iter(of_the_cell), None)
    return next(iter(of_the_cell + from_outside), device)


def _fall_back(cell: CellRow, delegation: InvocationRow) -> Failure:
    nodes = ""
    if delegation.delegated_nodes is not None and delegation.total_nodes is not None:
        nodes = f" ({delegation.delegated_nodes} of {delegation.total_nodes} nodes delegated)"
    achieved = delegation.delegate_achieved
    whole = "only in part" if achieved == cell.delegate else f"on {achieved}"
    message = f"{cell.delegate} was asked for, but the model ran {whole}{nodes}."
    return Failure(FailureClass.FELL_BACK, message, delegation.fell_back_reason or "")


def _failure_values(failure: Failure | None) -> Values:
    if failure is None:
        return {}
    return {
        "failure_class": str(failure.failure_class),
        "failure_message": failure.message,
        "failure_evidence": failure.evidence,
        "failure_advice": failure.advice,
    }


def _device_values(device: DeviceRow | None) -> Values:
    if device is None:
        return {}
    return {"device": device.title, "serial": device.serial, "device_kind": device.kind, "labels": device.labels}


def variant_of(cell: CellRow, variants: Iterable[VariantRow]) -> VariantRow | None:
    """Return the variant's row, which has another name if a later variant took the recipe's."""
    alike = [row for row in variants if row.sha256 == cell.variant_sha256]
    return next((row for row in alike if row.name == cell.variant_name), alike[0] if alike else None)


def _rows_of_failed_devices(devices: Iterable[DeviceRow], rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Give a device that failed as a whole its own row, unless the failure already stands in a cell's row."""
    shown = {(row.serial, row.failure_message) for row in rows}
    return [
        ResultRow(
            sweep_id=device.sweep_id,
            profile=device.profile,
            verdict=Verdict.FAILED.value,
            **_device_values(device),
            **_failure_values(device.failure),
        )
        for device in devices
        if device.failure_class is not None and (device.serial, device.failure_message) not in shown
    ]


def _rows_of_failed_variants(variants: Iterable[VariantRow]) -> list[ResultRow]:
    return [
        ResultRow(
            sweep_id=variant.sweep_id,
            variant=variant.name,
            verdict=Verdict.FAILED.value,
            **_failure_values(variant.failure),
        )
        for variant in variants
        if variant.failure_class is not None
    ]


@dataclass(frozen=True)
class OperatorShare:
    """One kind of operator in one place: the median of the profiled processes."""

    operator: str
    place: str
    """A `ExecutedBy`."""
    nodes: int
    time_us: float
    share: float
    """Of the profiled time of one inference, 0 to 1."""


def operator_shares(invocations: Iterable[InvocationRow]) -> list[OperatorShare]:
    """Return what the time of one cell goes to, the slowest first; empty if nothing was profiled.

    `invocations` are rows of the store, of any pass. A profile disturbs what it measures: its times are for shares, and
    are never a cell's latency.
    """
    profiles = [
        row.operators
        for row in invocations
        if row.purpose == Pass.OP_PROFILE and row.failure_class is None and row.operators
    ]
    kinds: dict[tuple[str, str], tuple[int, list[float]]] = {}
    for operator in (operator for profile in profiles for operator in profile):
        _, times_us = kinds.setdefault((operator["operator"], operator["place"]), (operator["nodes"], []))
        times_us.append(operator["time_us"])
    medians = {kind: float(np.median(times_us)) for kind, (_, times_us) in kinds.items()}
    total_us = sum(medians.values())
    shares = [
        OperatorShare(operator, place, kinds[operator, place][0], time_us, time_us / total_us if total_us else 0.0)
        for (operator, place), time_us in medians.items()
    ]
    return sorted(shares, key=lambda share: -share.time_us)


def share_in_delegate(shares: Sequence[OperatorShare]) -> float | None:
    """Return the share of the profiled time inside a delegate, 0 to 1; None if nothing was profiled."""
    if not shares:
        return None
    total_us = fsum(share.time_us for share in shares)  # exact, so that a part is never more than the whole
    inside_us = fsum(share.time_us for share in shares if share.place == ExecutedBy.DELEGATE)
    return inside_us / total_us if total_us else 0.0
