"""One row a cell: what was asked, what ran, how fast, how good, and what the row is worth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.analysis.result_row import COLUMNS
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
from harness.benchmark.benchmark_model.command import keeps_cache
from harness.benchmark.delegates import find_delegate
from harness.benchmark.invocation import ExecutedBy, Pass
from harness.errors import Failure, FailureClass, is_final
from harness.store.rows import counting_attempts
from harness.store.store import Store
from harness.store.sweep_rows import Row, SweepRows, read_sweep_rows

if TYPE_CHECKING:
    import pandas as pd


def summarize(store: Store, sweep_id: str) -> pd.DataFrame:
    """Return the summary of one sweep with the columns of `COLUMNS`, by device and rank.

    Recipes that gave no variant and devices that could not be measured have a row of their own, so that nothing
    vanishes.
    """
    import pandas as pd

    (sweep,) = read_sweep_rows(store, [sweep_id])
    rows = summary_rows(sweep)
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=COLUMNS[name][0]) for name in COLUMNS})


def summary_rows(sweep: SweepRows) -> list[Row]:
    """Return the rows of `summarize` as JSON values, without the cost of a table."""
    devices = {row["serial"]: row for row in sweep.devices}
    set_aside = sweep.record.set_aside if sweep.record else {}
    sittings = sweep.record.sittings if sweep.record else []
    invocations = _by_cell(counting_attempts(sweep.invocations))
    accuracies = {row["cell_key"]: row for row in sweep.accuracies}  # the last attempt wins
    rows: list[Row] = []
    latencies: dict[str, dict[int, Estimate]] = {}
    for cell in sweep.cells:
        device = devices.get(cell["serial"], {})
        cell_invocations = invocations.get(cell["key"], [])
        row, latency = _cell_row(
            cell, cell_invocations, accuracies.get(cell["key"]), device, set_aside.get(cell["key"])
        )
        row |= _device_values(device) | _variant_values(variant_of(cell, sweep.variants))
        row["sittings"] = _sittings(cell_invocations, sittings)
        if latency and row["verdict"] == Verdict.RANKED:
            latencies.setdefault(cell["serial"], {})[len(rows)] = latency
        rows.append(row)
    for of_device in latencies.values():
        for index, place in rank(of_device).items():
            rows[index] |= {"rank": place.place, "tied": place.tied, "fastest": place.place == 1}
    rows += _rows_of_failed_devices(devices.values(), rows) + _rows_of_failed_variants(sweep.variants)
    return _complete(sweep.sweep_id, rows)


def _by_cell(invocations: Iterable[Row]) -> dict[str, list[Row]]:
    cells: dict[str, list[Row]] = {}
    for row in invocations:
        cells.setdefault(row["cell_key"], []).append(row)
    return cells


def _sittings(invocations: list[Row], sittings: Sequence[datetime]) -> str | None:
    """Return the numbers of the sittings in which latency was measured, counted from 1, such as `1, 3`."""
    starts = [
        datetime.fromisoformat(row["started_at_utc"])
        for row in invocations
        if row["purpose"] == Pass.LATENCY and row["failure_class"] is None
    ]
    numbers = sorted({max(1, bisect_right(sittings, start)) for start in starts})
    return ", ".join(map(str, numbers)) or None


def _cell_row(
    cell: Row, invocations: list[Row], accuracy: Row | None, device: Row, set_aside: str | None
) -> tuple[Row, Estimate | None]:
    passes = {purpose: [row for row in invocations if row["purpose"] == purpose] for purpose in Pass}
    measured = [row for row in passes[Pass.LATENCY] if row["failure_class"] is None]
    failed = [row for row in passes[Pass.LATENCY] if row["failure_class"] is not None]
    delegation = _with_proof_of_profile(_worst_delegation(measured), passes[Pass.OP_PROFILE])
    latency_of, latency = _latency(measured)
    stored = [_stored_failure(row) for row in (*failed, *passes[Pass.MEMORY], *passes[Pass.SUSTAINED], accuracy or {})]
    own, of_device = [failure for failure in stored if failure], _stored_failure(device)
    verdict = judge_cell(
        Facts(
            is_cpu=find_delegate(cell["delegate"]).is_cpu,
            fell_back=delegation.get("fell_back"),
            check_passed=(accuracy or {}).get("check_passed"),
            invocations_ok=len(measured),
            invocations_failed=sum(is_final(row["failure_class"]) for row in failed),
            has_failure=bool(own or of_device),
            is_set_aside=set_aside is not None,
        )
    )
    row = {
        "variant": cell["variant_name"],
        "delegate_requested": cell["delegate"],
        **{name: cell[name] for name in ("variant_sha256", "serial", "threads", "core_mask", "tool_sha256", "profile")},
        **{name: delegation.get(name) for name in _DELEGATION},
        "cell_key": cell["key"],
        "invocations_ok": len(measured),
        "invocations_failed": len(failed),
        "latency_of": latency_of,
        "latency_median_us": latency and latency.value,
        "latency_low_us": latency and latency.low,
        "latency_high_us": latency and latency.high,
        **_spreads(measured, latency_column(latency_of)),
        **_warm_up(measured),
        **_init(passes[Pass.INIT_COLD], passes[Pass.INIT_WARM]),
        "init_median_us": median(_values(measured, "init_us")),
        "first_inference_median_us": median(_values(measured, "first_inference_us")),
        **_sustained(passes[Pass.SUSTAINED]),
        "memory_overall_mb": median(_values(passes[Pass.MEMORY], "memory_overall_mb")),
        "memory_peak_mb": median(_values(passes[Pass.MEMORY], "peak_memory_mb")),
        "delegate_time_share": share_in_delegate(operator_shares(passes[Pass.OP_PROFILE])),
        **_accuracy_values(accuracy or {}),
        "verdict": verdict,
        "set_aside": set_aside,
        **_failure_values(_failure_of(verdict, cell, delegation, own, of_device)),
    }
    return row, latency


_DELEGATION = ("delegate_achieved", "delegated_nodes", "total_nodes", "partitions", "fell_back")


def _worst_delegation(measured: list[Row]) -> Row:
    """Return the invocation that stands for the cell: one that fell back, else one that proves nothing, else any."""
    severity = {True: 0, None: 1, False: 2}
    return min(measured, key=lambda row: (severity[row["fell_back"]], row["delegated_nodes"] or 0), default={})


def _with_proof_of_profile(delegation: Row, profiled: list[Row]) -> Row:
    """Let the operators' profile tell where a cell ran, if the logs of its timed processes do not."""
    if not delegation or delegation["fell_back"] is not None:
        return delegation
    proof = _worst_delegation([row for row in profiled if row["fell_back"] is not None])
    return {**delegation, **{name: proof[name] for name in (*_DELEGATION, "fell_back_reason")}} if proof else delegation


def _latency(measured: list[Row]) -> tuple[str | None, Estimate | None]:
    """Return which value of an invocation stands for it, and the median of those values.

    One kind for all invocations of a cell: medians only where each has one.
    """
    if not measured:
        return None, None
    kind = "median" if all(row["latency_median_us"] is not None for row in measured) else "average"
    return kind, median_with_interval(_values(measured, latency_column(kind)))


def _spreads(measured: list[Row], column: str) -> Row:
    """Return how invocations lie apart, how iterations do, what stands out, and what changed steadily."""
    latencies = _values(measured, column)
    change = drift(latencies)
    return {
        "latency_spread": relative_spread(latencies),
        "latency_within_spread": within_spread(latencies, [row["latency_std_us"] for row in measured]),
        "latency_outliers": sum(outliers(latencies)),
        "latency_drift": change.change if change and change.is_certain else None,
    }


def _warm_up(measured: list[Row]) -> Row:
    """Return what was asked of the last process: all of a cell are asked alike, but for a sweep that was resumed."""
    last = measured[-1] if measured else {}
    return {"warmup_runs": last.get("warmup_asked_runs"), "warmup_converged": last.get("warmup_converged")}


def _init(cold: list[Row], warm: list[Row]) -> Row:
    """Return what loading took in pairs of processes; failed ones hold no value."""
    return {
        "init_cold_us": median(_values(cold, "init_us")),
        "init_warm_us": median(_values(warm, "init_us")),
        "init_cached": any(keeps_cache(row["command"]) for row in cold) if cold else None,
    }


def _sustained(windows: list[Row]) -> Row:
    """Return the curve of the last sustained run, and how far its end is from its start."""
    curve: list[float] = []
    last_id = 0
    for row in windows:
        if row["failure_class"] is not None or row["id"] < last_id:  # a run that was made again ended earlier
            break
        last_id = row["id"]
        curve.append(row["latency_avg_us"] if row["latency_median_us"] is None else row["latency_median_us"])
    return {
        "sustained_curve_us": curve or None,
        "sustained_change": curve[-1] / curve[0] - 1 if len(curve) > 1 else None,
    }


def latency_column(latency_of: str | None) -> str:
    """Return the column of `invocations` that `latency_of` speaks of."""
    return "latency_median_us" if latency_of == "median" else "latency_avg_us"


def _values(rows: Iterable[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _accuracy_values(accuracy: Row) -> Row:
    top1, float_top1 = accuracy.get("top1"), accuracy.get("float_top1")
    names = ("samples", "top1", "top1_low", "top1_high", "top5", "float_top1", "agreement")
    return {
        **{name: accuracy.get(name) for name in names},
        "accuracy_drop_points": None if top1 is None or float_top1 is None else 100 * (float_top1 - top1),
        "output_check": accuracy.get("check_passed"),
        "accuracy_note": accuracy.get("note") or None,
    }


def _failure_of(
    verdict: Verdict, cell: Row, delegation: Row, own: list[Failure], device: Failure | None
) -> Failure | None:
    """Return the failure that explains the verdict. What was measured in full is not spoilt by a phone lost later."""
    of_the_cell = [failure for failure in own if is_final(failure.failure_class)]
    from_outside = [failure for failure in own if not is_final(failure.failure_class)]
    if verdict is Verdict.SET_ASIDE:  # what counts is another row's
        return None
    if verdict is Verdict.WRONG_OUTPUT:
        of_accuracy = [failure for failure in own if failure.failure_class is FailureClass.WRONG_OUTPUT]
        unsaid = Failure(FailureClass.WRONG_OUTPUT, "The outputs differ from the host's.")
        return next(iter(of_accuracy), unsaid)
    if verdict is Verdict.FELL_BACK:
        return _fall_back(cell, delegation)
    if verdict is Verdict.RANKED:
        return next(iter(of_the_cell), None)
    return next(iter(of_the_cell + from_outside), device)


def _fall_back(cell: Row, delegation: Row) -> Failure:
    nodes = ""
    if delegation["delegated_nodes"] is not None and delegation["total_nodes"] is not None:
        nodes = f" ({delegation['delegated_nodes']} of {delegation['total_nodes']} nodes delegated)"
    achieved = delegation["delegate_achieved"]
    whole = "only in part" if achieved == cell["delegate"] else f"on {achieved}"
    message = f"{cell['delegate']} was asked for, but the model ran {whole}{nodes}."
    return Failure(FailureClass.FELL_BACK, message, delegation["fell_back_reason"] or "")


def _stored_failure(row: Mapping[str, Any]) -> Failure | None:
    name = row.get("failure_class")
    if name is None:
        return None
    return Failure(FailureClass(name), row["failure_message"] or "", row["failure_evidence"] or "")


def _failure_values(failure: Failure | None) -> Row:
    if failure is None:
        return {}
    return {
        "failure_class": failure.failure_class,
        "failure_message": failure.message,
        "failure_evidence": failure.evidence,
        "failure_advice": failure.advice,
    }


def _device_values(device: Row) -> Row:
    if not device:
        return {}
    return {
        "device": device["title"],
        "serial": device["serial"],
        "device_kind": device["kind"],
        "labels": device["labels"],
    }


def variant_of(cell: Mapping[str, Any], variants: Iterable[Row]) -> Row:
    """Return the variant's row, which has another name where a later variant took the recipe's."""
    alike = [row for row in variants if row["sha256"] == cell["variant_sha256"]]
    return next((row for row in alike if row["name"] == cell["variant_name"]), alike[0] if alike else {})


def _variant_values(variant: Row) -> Row:
    return {name: variant.get(name) for name in ("size_bytes", "gzip_size_bytes")}


def _rows_of_failed_devices(devices: Iterable[Row], rows: list[Row]) -> list[Row]:
    """Give a device that failed as a whole its own row, unless the failure already stands in a cell's row."""
    told = {(row.get("serial"), row.get("failure_message")) for row in rows}
    failed = [device for device in devices if device["failure_class"] is not None]
    return [
        {
            **_device_values(device),
            "profile": device["profile"],
            "verdict": Verdict.FAILED,
            **_failure_values(_stored_failure(device)),
        }
        for device in failed
        if (device["serial"], device["failure_message"]) not in told
    ]


def _rows_of_failed_variants(variants: Iterable[Row]) -> list[Row]:
    return [
        {"variant": variant["name"], "verdict": Verdict.FAILED, **_failure_values(_stored_failure(variant))}
        for variant in variants
        if variant["failure_class"] is not None
    ]


def _complete(sweep_id: str, rows: list[Row]) -> list[Row]:
    """Give every row every column, and put them in order."""
    complete = [{name: row.get(name) for name in COLUMNS} | {"sweep_id": sweep_id} for row in rows]
    for row in complete:
        row["labels"] = row["labels"] or []
        row["verdict"] = str(row["verdict"])
        row["failure_class"] = row["failure_class"] and str(row["failure_class"])
    last = float("inf")
    complete.sort(
        key=lambda row: (
            row["device"] is None,
            row["device"] or "",
            row["serial"] or "",
            row["rank"] or last,
            row["latency_median_us"] or last,
            row["variant"] or "",
        )
    )
    return complete


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


def operator_shares(invocations: Iterable[Mapping[str, Any]]) -> list[OperatorShare]:
    """Return what the time of one cell goes to, the slowest first; empty where nothing was profiled.

    `invocations` are rows of the store, of any pass. A profile disturbs what it measures: its times are for shares, and
    are never a cell's latency.
    """
    profiles = [
        row["operators"]
        for row in invocations
        if row["purpose"] == Pass.OP_PROFILE and row["failure_class"] is None and row["operators"]
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
    """Return the share of the profiled time inside a delegate, 0 to 1; None where nothing was profiled."""
    if not shares:
        return None
    total_us = fsum(share.time_us for share in shares)  # exact, so that a part is never more than the whole
    inside_us = fsum(share.time_us for share in shares if share.place == ExecutedBy.DELEGATE)
    return inside_us / total_us if total_us else 0.0
