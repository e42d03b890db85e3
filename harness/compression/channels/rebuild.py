"""The network without some channels: masked in its old shape, or rebuilt in a smaller one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    analyse,
)
from harness.compression.channels.selection import Kept
from harness.compression.training.kernels import copy_adapted, set_weights

Indices = NDArray[np.int64]

_MULTIPLE = 8
"""Widths of students are multiples of this, from twice this on."""


def masked(graph: ChannelGraph, kept: Kept) -> Untyped:
    """Return the network in its old shape, with everything zero that makes or reads a removed channel."""
    import keras

    copy = keras.models.clone_model(graph.model)
    for layer, twin in zip(graph.model.layers, copy.layers, strict=True):
        weights = layer.get_weights()
        if not weights:
            continue
        for place, (weight, axes) in enumerate(zip(weights, _axes(graph, layer), strict=True)):
            for axis, layout in axes.items():
                removed = np.setdiff1d(np.arange(weight.shape[axis]), _indices(graph, layout, kept))
                if len(removed) and not _is_variance(layer, place):
                    weight[(slice(None),) * axis + (removed,)] = 0
        set_weights(twin, weights)
    return copy


def rebuild(graph: ChannelGraph, kept: Kept) -> Untyped:
    """Return the smaller network; it gives the same outputs as `masked`, up to rounding."""
    smaller = _with_widths(graph, {number: len(indices) for number, indices in kept.items()})
    for layer in graph.model.layers:
        weights = layer.get_weights()
        if not weights:
            continue
        cut = []
        for weight, axes in zip(weights, _axes(graph, layer), strict=True):
            for axis, layout in axes.items():
                weight = np.take(weight, _indices(graph, layout, kept), axis=axis)  # noqa: PLW2901 - cut axis by axis
            cut.append(weight)
        set_weights(smaller.get_layer(layer.name), cut)
    return smaller


def scaled_width(model: Untyped, factor: float, *, seed: int) -> Untyped:
    """Return the same architecture with about `factor` times the channels, freshly initialised: a student."""
    import keras

    graph = analyse(model)
    keras.utils.set_random_seed(seed)
    student = _with_widths(graph, {group.number: _scaled(group.channels, factor) for group in graph.groups})
    copy_adapted(graph.model, student)
    return student


def _scaled(channels: int, factor: float) -> int:
    wanted = channels * factor
    if wanted < 2 * _MULTIPLE:
        return max(1, round(wanted))
    return round(wanted / _MULTIPLE) * _MULTIPLE


def _with_widths(graph: ChannelGraph, widths: Mapping[int, int]) -> Untyped:
    """Return a fresh network in which each group has this many channels."""
    import keras

    def width(layout: ChannelLayout) -> int:
        roots = [graph.find(space) for space in layout.pieces]
        return layout.repeats * sum(widths.get(root, graph.sizes[root]) for root in roots)

    def clone(layer: Untyped) -> Untyped:
        if not isinstance(layer, keras.Layer):
            return layer
        config = layer.get_config()
        made = graph.makes[layer]
        for key in ("filters", "units"):
            if key in config:
                config[key] = width(made)
        if type(layer).__name__ == "Reshape":
            config["target_shape"] = (*config["target_shape"][:-1], width(made))
        return type(layer).from_config(config)

    return keras.models.clone_model(graph.model, clone_function=clone)


def _axes(graph: ChannelGraph, layer: Untyped) -> list[dict[int, ChannelLayout]]:
    """Return, for each of a layer's weights in Keras's order, which of its axes follow which layout."""
    kind = type(layer).__name__
    reads, makes = graph.reads[layer], graph.makes[layer]
    count = len(layer.weights)
    if getattr(layer, "groups", 1) != 1 or getattr(layer, "depth_multiplier", 1) != 1:
        return [{}] * count
    bias = {0: makes}
    if kind == "BatchNormalization":
        return [bias] * count
    if kind not in (*MAKERS, *DEPTHWISE):
        return [{}] * count
    one, other = layer.weights[0].ndim - 2, layer.weights[0].ndim - 1
    plain = {one: reads, other: makes}
    axes = [plain, bias]
    if kind in TRANSPOSED:
        axes = [{one: makes, other: reads}, bias]
    elif kind in DEPTHWISE:
        axes = [{one: makes}, bias]
    elif kind in SEPARABLE:
        axes = [{one: reads}, plain, bias]
    return axes[:count]


def _indices(graph: ChannelGraph, layout: ChannelLayout, kept: Kept) -> Indices:
    """Return which places along an axis of a layout stay."""
    pieces: list[Any] = []
    start = 0
    for space in layout.pieces:
        root = graph.find(space)
        pieces.append(start + kept.get(root, np.arange(graph.sizes[root])))
        start += graph.sizes[root]
    once = np.concatenate(pieces)
    return np.asarray((np.arange(layout.repeats)[:, None] * start + once[None]).reshape(-1), np.int64)


def _is_variance(layer: Untyped, place: int) -> bool:
    """Return True if a weight is the variance of a batch normalization: dividing by zero would not be removing."""
    return type(layer).__name__ == "BatchNormalization" and layer.weights[place].name == "moving_variance"
