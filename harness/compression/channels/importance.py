"""How much each channel of a group matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compression.channels.groups import SEPARABLE, TRANSPOSED, ChannelGraph, Group, Untyped
from harness.compression.channels.selection import Scores

Measure = Literal["magnitude", "batch-norm", "taylor"]

_BATCH = 64


def importance(
    graph: ChannelGraph,
    measure: Measure,
    *,
    images: NDArray[np.float32] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Scores:
    """Return one score per channel of every group; larger is more important.

    * `magnitude`: the Euclidean length of the filters that make it (Li et al. 2017, "Pruning Filters for Efficient
      ConvNets");
    * `batch-norm`: the magnitude of its batch normalization's scale (Liu et al. 2017, "Learning Efficient Convolutional
      Networks through Network Slimming"); a group without one takes the filters' length;
    * `taylor`: the squared change of the loss without the filter, to first order, summed over batches of labelled
      images (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8).
    """
    if measure == "taylor":
        if images is None or labels is None:
            raise ValueError("taylor needs images and labels")
        changes = _loss_changes(graph, images, labels)
        return {group.number: sum_of(group, lambda layer: changes[layer.name]) for group in graph.groups}
    return {group.number: _static_score(group, measure) for group in graph.groups}


def sum_of(group: Group, score: Callable[[Untyped], NDArray[Any]]) -> NDArray[Any]:
    """Return the sum of a score over the layers that make a group's channels."""
    return np.asarray(np.sum([score(layer) for layer in group.makers], axis=0))


def _static_score(group: Group, measure: Measure) -> NDArray[Any]:
    if measure == "batch-norm" and group.scalers:
        return np.asarray(np.sum([np.abs(layer.gamma.numpy()) for layer in group.scalers], axis=0))
    return sum_of(group, _filter_lengths)


def _filter_lengths(layer: Untyped) -> NDArray[Any]:
    """Return each filter's length, in units of the layer's mean, so that layers of a group have equal say."""
    filters = np.moveaxis(filters_of(layer).numpy(), _filter_axis(layer), 0)
    lengths = np.sqrt((filters.reshape(len(filters), -1) ** 2).sum(axis=1))
    return np.asarray(lengths / max(float(lengths.mean()), 1e-30))


def filters_of(layer: Untyped) -> Untyped:
    """Return the variable that holds a layer's filters."""
    return layer.pointwise_kernel if type(layer).__name__ in SEPARABLE else layer.kernel


def _loss_changes(
    graph: ChannelGraph, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    import keras
    import tensorflow as tf

    from harness.compression.training.learner import gives_probabilities

    layers = [layer for group in graph.groups for layer in group.makers]
    variables = [filters_of(layer) for layer in layers]
    from_logits = not gives_probabilities(graph.model, images[:_BATCH])
    changes = {
        layer.name: np.zeros(variable.shape[_filter_axis(layer)])
        for layer, variable in zip(layers, variables, strict=True)
    }
    for start in range(0, len(images), _BATCH):
        with tf.GradientTape() as tape:
            answers = graph.model(images[start : start + _BATCH], training=False)
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(labels[start : start + _BATCH], answers, from_logits)
            )
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        for layer, variable, gradient in zip(layers, variables, gradients, strict=True):
            change = (variable.numpy() * np.asarray(gradient)).astype(np.float64)
            changes[layer.name] += (
                np.moveaxis(change, _filter_axis(layer), 0).reshape(len(changes[layer.name]), -1).sum(1) ** 2
            )
    return changes


def _filter_axis(layer: Untyped) -> int:
    """Return which axis of a layer's filters counts them."""
    return len(filters_of(layer).shape) - (2 if type(layer).__name__ in TRANSPOSED else 1)
