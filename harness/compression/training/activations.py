"""Activations in few bits while training: the network's own layers, with rounding between them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection

import keras
import tensorflow as tf

from harness.compression.training.kernels import KERNEL_LAYERS
from harness.tflite.library_types import JsonValue, KerasModel, KerasTensor

_MOMENTUM = 0.99
_FUSED_AFTER = {*KERNEL_LAYERS, "BatchNormalization"}
_FUSED_INTO = {"BatchNormalization", "ReLU", "Activation"}
_UNCHANGED = {
    *("Dropout", "Flatten", "Reshape", "Softmax"),
    *(f"{kind}{axes}D" for kind in ("MaxPooling", "SpatialDropout", "ZeroPadding") for axes in (1, 2, 3)),
}


@keras.saving.register_keras_serializable(package="harness")
class RoundedActivation(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Rounds to `bits` between a smallest and a largest value, which follow the data while training."""

    def __init__(self, bits: int, **options: JsonValue) -> None:
        super().__init__(**options)
        self.bits = bits
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer="zeros", trainable=False, name="high")

    def compute_output_spec(self, values: KerasTensor, training: bool = False) -> KerasTensor:
        """Return what `call` gives: dense, although Keras takes a product with a number for sparse."""
        return keras.KerasTensor(values.shape, values.dtype)

    def call(self, values: KerasTensor, training: bool = False) -> KerasTensor:
        """Return the values on the grid; gradients pass through where nothing is cut off."""
        if training:
            unseen = tf.equal(self.low.value, self.high.value)
            for limit, now in (
                (self.low, tf.minimum(tf.reduce_min(values), 0.0)),
                (self.high, tf.maximum(tf.reduce_max(values), 0.0)),
            ):
                limit.assign(tf.where(unseen, now, _MOMENTUM * limit.value + (1 - _MOMENTUM) * now))
        high = tf.maximum(self.high.value, self.low.value + 1e-5)
        return tf.quantization.fake_quant_with_min_max_vars(values, self.low.value, high, num_bits=self.bits)


def with_rounded_activations(network: KerasModel, bits: int, name: str | None = None) -> KerasModel:
    """Return a network of the same layers that rounds every tensor which an integer runtime would keep in memory.

    The layers are shared: training the result trains `network`. Every call of a layer, or of a nested network, gets
    roundings of its own, because each tensor has its own range.
    """
    network = keras.Model(network.inputs, network.outputs, name=name or network.name)
    inside = {id(node) for nodes in network._nodes_by_depth.values() for node in nodes}
    calls: Counter[str] = Counter()

    def call(layer: KerasModel, *arguments: KerasTensor, **options: JsonValue) -> KerasTensor:
        number = calls[layer.name]
        calls[layer.name] += 1
        suffix = f"_{number}" if number else ""
        called = with_rounded_activations(layer, bits, layer.name + suffix) if _is_network(layer) else layer
        output = called(*arguments, **options)
        if not _is_kept(layer, inside):
            return output
        roundings = (f"rounded_{layer.name}{suffix}{part or ''}" for part in itertools.count())
        return keras.tree.map_structure(
            lambda value: RoundedActivation(bits, name=next(roundings))(value) if value.dtype == "float32" else value,
            output,
        )

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def _is_network(layer: KerasModel) -> bool:
    """Return True if a layer is a network whose own layers are known."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth")


def _is_kept(layer: KerasModel, inside: Collection[int]) -> bool:
    """Return True if an integer runtime stores a layer's output instead of fusing it or passing it on."""
    kind = _last_kind(layer)
    if kind in _UNCHANGED or kind == "InputLayer":
        return False
    nodes = [node for node in layer._outbound_nodes if id(node) in inside]
    followers = set().union(*(_first_kinds(node.operation) for node in nodes))
    # What nothing follows is the network's output: rounding probabilities would spoil the loss.
    return bool(nodes) and not (kind in _FUSED_AFTER and followers <= _FUSED_INTO)


def _last_kind(layer: KerasModel) -> str:
    while _is_network(layer):
        layer = layer.outputs[0]._keras_history.operation
    return type(layer).__name__


def _first_kinds(layer: KerasModel) -> set[str]:
    """Return the kinds of layers that read what a layer or nested network is called with."""
    if not _is_network(layer):
        return {type(layer).__name__}
    nodes = [node for tensor in layer.inputs for node in tensor._keras_history.operation._outbound_nodes]
    return set().union(*(_first_kinds(node.operation) for node in nodes))
