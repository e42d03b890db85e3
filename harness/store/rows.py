"""Value objects as rows of the store's tables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import pandas as pd
from sqlalchemy import Table

from harness.accuracy.outcome import AccuracyOutcome, Proportion
from harness.benchmark.invocation import Measurement, Pass
from harness.errors import Failure, is_final
from harness.store import schema
from harness.text import to_json_value


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


Row = TypeVar("Row", bound=Mapping[str, Any])


def counting_attempts(invocations: Iterable[Row]) -> list[Row]:
    """Return the last attempt of each process; then the timed ones that failed by their cell's own fault before it.

    These give no number, and they are not forgotten: a cell that crashes now and then is not to be shipped. The rows
    come in the order of time.
    """
    rows = list(invocations)
    latest = {_place(row): row for row in rows}
    own_faults = [
        row
        for row in rows
        if row["purpose"] == Pass.LATENCY
        and row["failure_class"] is not None
        and is_final(row["failure_class"])
        and latest[_place(row)] is not row
    ]
    return [*latest.values(), *own_faults]


def _place(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["sweep_id"], row["cell_key"], row["purpose"], row["invocation_index"]


def to_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON values; every missing, NaN or infinite value is None."""
    rows = table.astype(object).to_dict("records")
    return [
        {str(name): None if value is pd.NA else to_json_value(value) for name, value in row.items()} for row in rows
    ]
