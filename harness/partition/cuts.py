"""Choose where to cut: equal stages by a cost a step, or the fewest bytes across, or after tensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from harness.errors import UsageError
from harness.partition.graph import Graph


def balanced_cuts(graph: Graph, costs: Sequence[float], stages: int) -> tuple[int, ...]:
    """Return the cuts that make the costliest stage as cheap as can be; of equal ones, those with fewer bytes across.

    `costs` has one figure per step, such as microseconds. Dynamic programming over the last cut (the linear partition
    problem; Skiena, The Algorithm Design Manual, 8.5), exact.
    """
    _require_stages(graph, stages)
    before = [0.0, *accumulate(costs)]
    crossing = [graph.crossing_bytes(position) for position in range(len(costs) + 1)]

    def cost(start: int, end: int) -> float:
        return before[end] - before[start]

    # For each prefix of the steps: (cost of its costliest stage, bytes across, cuts).
    best: list[tuple[float, int, tuple[int, ...]]] = [(cost(0, end), 0, ()) for end in range(len(costs) + 1)]
    for stage in range(2, stages + 1):
        best = [
            min(
                (max(best[cut][0], cost(cut, end)), best[cut][1] + crossing[cut], (*best[cut][2], cut))
                for cut in range(stage - 1, end)
            )
            if end >= stage
            else best[end]
            for end in range(len(costs) + 1)
        ]
    return best[-1][2]


def narrow_cuts(graph: Graph, stages: int) -> tuple[int, ...]:
    """Return the cuts that fewest bytes cross, in the order of execution; of equal ones the most even."""
    _require_stages(graph, stages)
    steps = len(graph.steps)
    even = [steps * stage / stages for stage in range(1, stages)]
    ranked = sorted(
        range(1, steps), key=lambda cut: (graph.crossing_bytes(cut), min(abs(cut - ideal) for ideal in even))
    )
    return tuple(sorted(ranked[: stages - 1]))


def named_cuts(graph: Graph, names: Sequence[str]) -> tuple[int, ...]:
    """Return the cuts right after the steps that write these tensors. Raises `UsageError` for one that none writes."""
    step_of = {
        graph.tensors[tensor].name: place
        for place, index in enumerate(graph.steps)
        for tensor in graph.operators[index].outputs
    }
    unknown = [name for name in names if name not in step_of]
    if unknown:
        near = ", ".join(list(step_of)[:5])
        raise UsageError(f"No operator of the graph writes {unknown[0]!r}.", f"There are, among others: {near}.")
    cuts = sorted({step_of[name] + 1 for name in names})
    if cuts[-1] == len(graph.steps):
        last = graph.tensors[graph.operators[graph.steps[-1]].outputs[0]].name
        raise UsageError(f"Nothing comes after {last!r}: a cut there would leave an empty stage.", "Name another.")
    return tuple(cuts)


def _require_stages(graph: Graph, stages: int) -> None:
    if not 2 <= stages <= len(graph.steps):  # noqa: PLR2004 - one stage is no partition
        raise UsageError(
            f"{stages} stages: the graph can be cut into 2 to {len(graph.steps)}.", "Choose another number of stages."
        )
