"""Keras model in, float `.tflite` out, by TensorFlow's converter."""

from __future__ import annotations

from typing import Any

from harness.errors import CompressionError, Failure, FailureClass


def convert(keras_model: Any) -> bytes:  # noqa: ANN401 - Keras has no types
    """Convert with a batch of one, which delegates accept (they refuse an open batch) and runtimes can resize.

    Raises `CompressionError`.
    """
    import keras
    import tensorflow as tf

    inputs = [keras.Input(batch_shape=_closed_shape(tensor), dtype=tensor.dtype) for tensor in _inputs(keras_model)]
    outputs = keras_model(inputs if len(inputs) > 1 else inputs[0], training=False)
    closed = keras.Model(inputs, outputs, name="model")
    try:
        return bytes(tf.lite.TFLiteConverter.from_keras_model(closed).convert())
    except Exception as error:  # the converter raises all kinds
        raise _refused(
            f"TensorFlow's converter refused the model: {_first_line(error)}", evidence=str(error)
        ) from error


def _inputs(keras_model: Any) -> list[Any]:  # noqa: ANN401 - as above
    inputs = list(getattr(keras_model, "inputs", None) or [])
    if not inputs:
        raise _refused("The Keras model has no inputs of known shape: build it, or save it as a functional model.")
    return inputs


def _closed_shape(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    sizes = tuple(tensor.shape)[1:]
    if None in sizes:
        raise _refused(f"The model's input has the open shape {tuple(tensor.shape)}: fix every size but the first.")
    return (1, *sizes)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refused(message: str, evidence: str = "") -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message, evidence))
