"""Which operators ran where and for how long, read off the profile of a log."""

from __future__ import annotations

from collections.abc import Iterable

from harness.benchmark.benchmark_model.op_profile import ProfiledNode
from harness.benchmark.delegates import DELEGATES
from harness.benchmark.invocation import OperatorTime, Place

_INSIDE_A_DELEGATE = "Delegate/"
_US_PER_MS = 1000.0


def operator_times(nodes: Iterable[ProfiledNode]) -> tuple[OperatorTime, ...]:
    """Add up the nodes of each kind in each place, the slowest kind first.

    A delegate that does not profile its own steps is one node under the delegate's name.
    """
    totals: dict[tuple[str, Place], tuple[int, float]] = {}
    for node in nodes:
        key = (node.node_type, _place(node))
        count, time_us = totals.get(key, (0, 0.0))
        totals[key] = (count + 1, time_us + node.avg_ms * _US_PER_MS * node.times_called)
    times = (OperatorTime(operator, place, *total) for (operator, place), total in totals.items())
    return tuple(sorted(times, key=lambda time: -time.time_us))


def _place(node: ProfiledNode) -> Place:
    is_delegate = any(name in node.node_type for delegate in DELEGATES.values() for name in delegate.log_names)
    return Place.DELEGATE if is_delegate or node.name.startswith(_INSIDE_A_DELEGATE) else Place.BUILTIN
