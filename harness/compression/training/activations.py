"""Activations in few bits while training: the network's own layers, with rounding between them."""

from __future__ import annotations

import keras
import tensorflow as tf

from harness.tflite.library_types import JsonValue, KerasModel, KerasTensor

_MOMENTUM = 0.99
_FUSED_AFTER = {
    "Conv2D",
    "DepthwiseConv2D",
    "SeparableConv2D",
    "Conv2DTranspose",
    "Conv1D",
    "Dense",
    "BatchNormalization",
}
_FUSED_INTO = {"BatchNormalization", "ReLU", "Activation"}
_UNCHANGED = {"Dropout", "Flatten", "Reshape", "MaxPooling2D", "ZeroPadding2D", "Softmax"}


@keras.saving.register_keras_serializable(package="harness")
class RoundedActivation(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """Rounds to `bits` between a smallest and a largest value, which follow the data while training."""

    def __init__(self, bits: int, **options: JsonValue) -> None:
        super().__init__(**options)
        self.bits = bits
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer="zeros", trainable=False, name="high")

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


def with_rounded_activations(network: KerasModel, bits: int) -> KerasModel:
    """Return a network of the same layers that rounds every tensor which an integer runtime would keep in memory.

    The layers are shared: training the result trains `network`.
    """
    if isinstance(network, keras.Sequential):
        network = keras.Model(network.inputs, network.outputs, name=network.name)

    def call(layer: KerasModel, *arguments: KerasTensor, **options: JsonValue) -> KerasTensor:
        output = layer(*arguments, **options)
        if not _is_kept(layer) or not isinstance(output, keras.KerasTensor):
            return output
        return RoundedActivation(bits, name=f"rounded_{layer.name}")(output)

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


def _is_kept(layer: KerasModel) -> bool:
    """Return True if an integer runtime stores a layer's output instead of fusing it or passing it on."""
    kind = type(layer).__name__
    if kind in _UNCHANGED or kind == "InputLayer":
        return False
    followers = {type(node.operation).__name__ for node in layer._outbound_nodes} - {RoundedActivation.__name__}
    # What nothing follows is the network's output: rounding probabilities would spoil the loss.
    return bool(followers) and not (kind in _FUSED_AFTER and followers <= _FUSED_INTO)
