"""The highest rate that all stages of a pipeline keep up with at the same time, found by trying."""

from __future__ import annotations

from collections.abc import Callable

_CLOSE = 1.05
"""Bounds so near to each other end the search."""
_KEPT_UP = 0.98
"""A rate that is reached to this share was kept up with; more would be."""
_MOST_TRIES = 4


def best_rate(reached: float, bound: float, attempt: Callable[[float], float]) -> float:
    """Return the highest rate that was seen to be reached, halving what lies between it and a bound.

    `reached` is the rate of the slowest stage while each runs as fast as it can: on shared cores the fast ones then
    take time from it that a pipeline, where they wait for it, would leave to it. `bound` is no stage's to exceed.
    `attempt` offers a rate to all stages and returns what the slowest reached. As servers are measured under load
    (Reddi et al., MLPerf Inference Benchmark, ISCA 2020).
    """
    for _ in range(_MOST_TRIES):
        if bound <= reached * _CLOSE:
            break
        offered = (reached + bound) / 2
        found = attempt(offered)
        if found < offered * _KEPT_UP:
            bound = offered
        reached = max(reached, found)
    return reached
