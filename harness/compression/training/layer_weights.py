"""Copy weights between Keras layers, with what some of them compute from their weights."""

from __future__ import annotations

from typing import Any


def set_weights(layer: Any, weights: Any) -> None:  # noqa: ANN401 - Keras has no types
    """Set a layer's weights; a `Normalization` goes on with the mean and variance of before unless it is told."""
    layer.set_weights(weights)
    if is_adapted(layer):
        layer.finalize_state()


def is_adapted(layer: Any) -> bool:  # noqa: ANN401 - as above
    """Whether a layer's weights were read off data, such as a mean, and not trained."""
    return callable(getattr(layer, "finalize_state", None))


def copy_adapted(network: Any, other: Any) -> None:  # noqa: ANN401 - as above
    """Give a fresh network of the same layer names what was read off data: it belongs to the data, not to training."""
    for layer in network.layers:
        if is_adapted(layer) and layer.weights:
            set_weights(other.get_layer(layer.name), layer.get_weights())
