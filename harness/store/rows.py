"""Value objects as rows of the store's tables, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table

from harness.accuracy.outcome import AccuracyOutcome, Proportion
from harness.benchmark.invocation import Measurement
from harness.errors import Failure
from harness.store import schema


def measurement_values(measurement: Measurement | None) -> dict[str, Any]:
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


def only_columns(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the table has no column for."""
    return {name: value for name, value in values.items() if name in table.c}


def utc_text(moment: datetime) -> str:
    """Write a moment as `2026-11-24T08:30:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
