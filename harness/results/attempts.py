"""Which attempts of a sweep count: the last of each place in the plan, and failures that another attempt made good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from harness.benchmark.invocation import Pass
from harness.store.store import is_final

Row = TypeVar("Row", bound=Mapping[str, Any])


def counting_attempts(invocations: Iterable[Row]) -> list[Row]:
    """Return the last attempt of each process; then the timed ones that failed by their cell's own fault before it.

    These give no number, and they are not forgotten: a cell that crashes now and then is not to be shipped. The rows
    come in the order of time.
    """
    rows = list(invocations)
    latest = {_place(row): row for row in rows}
    own_faults = [row for row in rows if row["purpose"] == Pass.LATENCY and row["failure_class"] is not None
                  and is_final(row["failure_class"]) and latest[_place(row)] is not row]  # fmt: skip
    return [*latest.values(), *own_faults]


def _place(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["sweep_id"], row["cell_key"], row["purpose"], row["invocation_index"]
