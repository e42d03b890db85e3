"""How many channels stay, so that the network costs what it may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compression.channels.groups import (
    DEPTHWISE,
    MAKERS,
    SEPARABLE,
    TRANSPOSED,
    ChannelGraph,
    ChannelLayout,
    Untyped,
)
from harness.errors import CompressionError, Failure, FailureClass

Scores = dict[int, NDArray[np.floating[Any]]]
Kept = dict[int, NDArray[np.int64]]
"""By group number: the indices of the channels that stay, ascending."""

_HALVINGS = 30


def choose_kept(
    graph: ChannelGraph,
    scores: Scores,
    *,
    multiply_adds: float,
    scope: Literal["uniform", "global"] = "uniform",
    multiple: int = 8,
) -> Kept:
    """Return the most channels with which at most the share `multiply_adds` of the network's cost is left.

    `uniform` takes the same share of every group, `global` the least important channels of all; scores are compared in
    units of their group's mean. At least `multiple` channels of a group stay, or all of a smaller one. Raises
    `CompressionError` where that is too many.
    """
    scaled = {number: score / max(float(score.mean()), 1e-30) for number, score in scores.items()}
    limit = multiply_adds * cost(graph, {})

    def keep(strength: float) -> Kept:
        return {number: _strongest(score, strength, scope, multiple) for number, score in scaled.items()}

    low, high = 0.0, 1.0 if scope == "uniform" else max(float(score.max()) for score in scaled.values())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_much = cost(graph, {number: len(kept) for number, kept in keep(middle).items()}) > limit
        low, high = (middle, high) if too_much else (low, middle)
    chosen = keep(high)
    left = cost(graph, {number: len(kept) for number, kept in chosen.items()})
    if left > limit:
        message = (
            f"{graph.model.name} cannot get by with {100 * multiply_adds:.0f} % of its multiply-adds: with {multiple} "
            f"channels a layer, {100 * left / cost(graph, {}):.0f} % are left. Raise multiply_adds, or lower multiple."
        )
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
    return chosen


def _strongest(score: NDArray[Any], strength: float, scope: str, multiple: int) -> NDArray[np.int64]:
    wanted = len(score) * (1 - strength) if scope == "uniform" else float((score >= strength).sum())
    count = min(len(score), max(multiple, math.floor(wanted / multiple) * multiple))
    return np.sort(np.argsort(-score, kind="stable")[:count]).astype(np.int64)


def cost(graph: ChannelGraph, counts: Mapping[int, int]) -> int:
    """Return the network's multiply-adds for one input, with this many channels left in some groups."""

    def width(layout: ChannelLayout) -> int:
        roots = [graph.find(space) for space in layout.pieces]
        return layout.repeats * sum(counts.get(root, graph.sizes[root]) for root in roots)

    total = 0
    for layer in graph.model.layers:
        kind = type(layer).__name__
        if kind in (*MAKERS, *DEPTHWISE):
            total += _layer_cost(layer, kind, width(graph.reads[layer]), width(graph.makes[layer]))
    return total


def multiply_adds(model: Untyped) -> int:
    """Return the multiply-adds of convolutions and dense layers for one input."""
    layers = [layer for layer in model.layers if type(layer).__name__ in (*MAKERS, *DEPTHWISE)]
    return sum(
        _layer_cost(layer, type(layer).__name__, layer.input.shape[-1], layer.output.shape[-1]) for layer in layers
    )


def _layer_cost(layer: Untyped, kind: str, inputs: int, outputs: int) -> int:
    spread = layer.input if kind in TRANSPOSED else layer.output
    places = math.prod(int(size or 1) for size in spread.shape[1:-1])
    if kind == "Dense":
        return places * inputs * outputs
    # A transposed convolution reads every input place once for each place of its kernel.
    taps = places * math.prod(int(size) for size in layer.kernel_size)
    if kind in DEPTHWISE:
        return taps * outputs
    if kind in SEPARABLE:
        return taps * inputs + places * inputs * outputs
    return taps * inputs * outputs // int(getattr(layer, "groups", 1))
