"""Where the time of a cell goes: its profiled processes added up, operator by operator and place by place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np

from harness.benchmark.invocation import Pass, Place


@dataclass(frozen=True)
class OperatorShare:
    """One kind of operator in one place: the median of the profiled processes."""

    operator: str
    place: str
    """A `Place`."""
    nodes: int
    time_us: float
    share: float
    """Of the profiled time of one inference, 0 to 1."""


def operator_shares(invocations: Iterable[Mapping[str, Any]]) -> list[OperatorShare]:
    """Return what the time of one cell goes to, the slowest first; empty where nothing was profiled.

    `invocations` are rows of the store, of any pass. A profile disturbs what it measures: its times are for shares, and
    are never a cell's latency.
    """
    profiles = [row["operators"] for row in invocations
                if row["purpose"] == Pass.OP_PROFILE and row["failure_class"] is None and row["operators"]]  # fmt: skip
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
    inside_us = fsum(share.time_us for share in shares if share.place == Place.DELEGATE)
    return inside_us / total_us if total_us else 0.0
