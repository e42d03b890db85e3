"""The Pareto front: rows that no other row beats in every measure."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float | None]]) -> list[bool]:
    """Tell of each point whether it is on the front; every measure is one of which less is better.

    A point is beaten by one that is at least as good in every measure and better in one. Points that lack a measure are
    never on the front and beat nobody. Sorted first, so that a point can only be beaten by one before it.
    """
    complete = sorted(
        (tuple(value for value in point if value is not None), index)
        for index, point in enumerate(points)
        if None not in point
    )
    kept: list[tuple[float, ...]] = []
    on_front = [False] * len(points)
    for values, index in complete:
        beaten = any(all(a <= b for a, b in zip(other, values, strict=True)) and other != values for other in kept)
        if not beaten:
            kept.append(values)
            on_front[index] = True
    return on_front
