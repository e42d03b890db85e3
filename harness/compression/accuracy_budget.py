"""Give layers back their precision, the costliest first, until the accuracy drop against the float model is kept."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.graph.quantizer import FormatRule
from harness.datasets.labelled import class_scores
from harness.tflite.interpreter import interpret

CONFIDENCE_QUANTILE = 1.6449
"""One-sided 95 % of the normal distribution."""

Array = NDArray[np.floating[Any]]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Judge:
    """Labelled inputs that decide, and the float model's answers to them."""

    inputs: Array
    """(samples, ...) as the float graph takes them."""
    labels: NDArray[np.int64]
    reference: Array
    """(samples, classes): what the untouched float model answers."""
    scored: int = 0
    """Position of the output that the labels are for."""


@dataclass(frozen=True)
class Drop:
    """How many points of top-1 per variant loses against the float model on the same samples."""

    points: float
    upper_points: float
    """One-sided 95 % bound: the true drop is hardly larger."""


@dataclass(frozen=True)
class Kept:
    """What the search ended with."""

    rules: tuple[FormatRule, ...]
    drop: Drop
    reverted: tuple[str, ...]
    """Layers that got their precision back, the costliest first."""
    within: bool
    """True if the budget is kept by the upper bound; otherwise this is the best that was found."""
    costs: tuple[tuple[str, float], ...]
    """Each layer's mean squared error of the outputs when it alone is quantized, largest first."""


def run_graph(graph: bytes, inputs: Array, scored: int = 0) -> Array:
    """Return the scored output of a graph with float inputs and outputs, (samples, ...)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.tflite")
        path.write_bytes(graph)
        return np.asarray(interpret(str(path), [inputs.astype(np.float32)], 1)[scored], np.float64)


def paired_drop(scores: Array, reference: Array, labels: NDArray[np.int64]) -> Drop:
    """Return the loss in top-1 between two answers to the same samples, with its upper bound.

    Only samples that one has right and the other wrong count. The bound is Wald's on the difference of two paired
    proportions, half a sample added to each cell (Agresti and Min 2005, "Simple Improved Confidence Intervals for
    Comparing Matched Proportions").
    """
    floats = reference.astype(np.float32)
    right = class_scores(scores.astype(np.float32), floats).argmax(1) == labels
    reference_right = class_scores(floats).argmax(1) == labels
    lost, gained = int((reference_right & ~right).sum()), int((right & ~reference_right).sum())
    total = len(labels) + 2
    difference = (lost - gained) / total
    spread = math.sqrt(max(0.0, (lost + gained + 1) / total - difference**2) / total)
    return Drop(100 * (lost - gained) / len(labels), 100 * (difference + CONFIDENCE_QUANTILE * spread))


def keep_within(
    quantize: Callable[[Sequence[FormatRule]], bytes],
    rules: Sequence[FormatRule],
    layers: Sequence[str],
    judge: Judge,
    *,
    max_drop_points: float,
    progress: Progress,
) -> Kept:
    """Search the fewest layers to revert, in the order of their cost, that keep the drop; bisect over their number.

    `layers` are scopes of operators. A layer goes from int4 to int8 first where that is enough, else to float.
    """
    full = tuple(rules)
    costs = _costs(quantize, full, layers, judge, progress)
    order = [layer for layer, _ in costs]
    tried: dict[tuple[int, str], tuple[tuple[FormatRule, ...], Drop]] = {}

    def attempt(count: int, precision: str) -> Drop:
        if (count, precision) not in tried:
            chosen = (*full, *(_reverted(full, layer, precision) for layer in order[:count]))
            drop = paired_drop(run_graph(quantize(chosen), judge.inputs, judge.scored), judge.reference, judge.labels)
            tried[count, precision] = chosen, drop
            progress(len(layers), len(layers), f"{count} layers back to {precision}: {drop.points:+.2f} points lost")
        return tried[count, precision][1]

    def keeps(precision: str, count: int) -> bool:
        return attempt(count, precision).upper_points <= max_drop_points

    for precision in _ladder(full):
        count = _fewest(len(order), partial(keeps, precision))
        if count is not None:
            chosen, drop = tried[count, precision]
            return Kept(chosen, drop, tuple(order[:count]), True, costs)
    # Not reachable: the smallest bound, and of equals the fewest layers.
    (count, _), (chosen, drop) = min(tried.items(), key=lambda item: (item[1][1].upper_points, item[0][0]))
    return Kept(chosen, drop, tuple(order[:count]), False, costs)


def _costs(
    quantize: Callable[[Sequence[FormatRule]], bytes],
    rules: tuple[FormatRule, ...],
    layers: Sequence[str],
    judge: Judge,
    progress: Progress,
) -> tuple[tuple[str, float], ...]:
    costs = {}
    for index, layer in enumerate(layers):
        alone = (FormatRule("float"), *(_only(rule, layer) for rule in rules if re.search(rule.match, layer)))
        answers = run_graph(quantize(alone), judge.inputs, judge.scored)
        costs[layer] = float(((answers - judge.reference) ** 2).mean())
        progress(len(layers), index + 1, f"layer {index + 1} of {len(layers)}")
    return tuple(sorted(costs.items(), key=lambda item: -item[1]))


def _only(rule: FormatRule, layer: str) -> FormatRule:
    return FormatRule(rule.weights, rule.activations, rule.granularity, f"^{re.escape(layer)}$")


def _reverted(rules: tuple[FormatRule, ...], layer: str, precision: str) -> FormatRule:
    match = f"^{re.escape(layer)}$"
    if precision == "float":
        return FormatRule("float", match=match)
    last = next(rule for rule in reversed(rules) if re.search(rule.match, layer))
    return FormatRule("int8" if last.weights == "int4" else last.weights, last.activations, match=match)


def _ladder(rules: tuple[FormatRule, ...]) -> tuple[str, ...]:
    return ("int8", "float") if any(rule.weights == "int4" for rule in rules) else ("float",)


def _fewest(most: int, keeps: Callable[[int], bool]) -> int | None:
    """Return the smallest number that keeps the budget, taking for granted that more layers never hurt."""
    if keeps(0):
        return 0
    if not most or not keeps(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high
