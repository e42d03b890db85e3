"""Masks of attention in int8 and int16, as networks write them: outputs against the float model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from harness.compression.graph import quantizer
from harness.compression.graph.fidelity import output_snr_db
from harness.compression.graph.finite_masks import with_finite_masks
from harness.compression.graph.quantizer import FormatRule
from harness.compression.graph.ranges import measure_ranges
from harness.tflite.flatbuffer import signature_keys

pytestmark = pytest.mark.training

LENGTH, WIDTH = 12, 16
CAUSAL = np.triu(np.ones((1, LENGTH, LENGTH), np.float32), 1)
LEAST_DB = {"int8": 25.0, "int16": 35.0}


def _attention(masked: Any, depth: int) -> Any:
    """Return attention whose scores `masked` changes, and its inputs: values, and which of them count."""
    import keras
    import tensorflow as tf
    from keras import layers

    class Attention(layers.Layer):  # type: ignore[misc] # Keras has no types
        def __init__(self, spread: float) -> None:
            super().__init__()
            self.spread = spread

        def call(self, query: Any, key: Any, value: Any, counts: Any) -> Any:
            scores = tf.matmul(query, key, transpose_b=True) * self.spread
            return tf.matmul(tf.nn.softmax(masked(scores, counts)), value)

    keras.utils.set_random_seed(1)
    values, counts = keras.Input((LENGTH, WIDTH), batch_size=1), keras.Input((LENGTH,), batch_size=1)
    x = values
    for place in range(depth):
        query, key, value = (layers.Dense(WIDTH)(x) for _ in range(3))
        x = Attention(0.25 * (1 + place))(query, key, value, counts)  # the scores of each layer spread further
    return keras.Model([values, counts], layers.Dense(4)(x))


def _graph(masked: Any, depth: int = 1) -> tuple[bytes, dict[str, Any]]:
    import tensorflow as tf

    graph = quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(_attention(masked, depth)).convert()))
    (key,) = signature_keys(graph)
    details = Interpreter(model_content=graph).get_signature_runner(key).get_input_details()
    draw = np.random.default_rng(0)
    samples = []
    for _ in range(24):
        counts = (np.arange(LENGTH) < draw.integers(4, LENGTH + 1)).astype(np.float32)[None]
        given = {(1, LENGTH): counts, (1, LENGTH, WIDTH): draw.normal(size=(1, LENGTH, WIDTH)).astype(np.float32)}
        samples.append({name: given[tuple(detail["shape"])] for name, detail in details.items()})
    return graph, {key: samples}


def _masks() -> dict[str, Any]:
    import tensorflow as tf

    def causal(value: float) -> Any:
        return lambda scores, counts: (
            scores + tf.constant(np.where(CAUSAL > 0, np.float32(value), 0)) + 0 * counts[:, None]
        )

    return {
        "a constant of -1e9": causal(-1e9),
        "a constant of -10000": causal(-1e4),
        "a constant of float32's lowest": causal(-3.4e38),
        "a constant that is subtracted": lambda scores, counts: (
            scores - tf.constant(1e4 * CAUSAL) + 0 * counts[:, None]
        ),
        "a product with -10000": lambda scores, counts: scores + (1.0 - counts[:, None]) * -1e4,
        "a product with -1e9": lambda scores, counts: scores + (1.0 - counts[:, None]) * -1e9,
    }


NAMES = (
    "a constant of -1e9",
    "a constant of -10000",
    "a constant of float32's lowest",
    "a constant that is subtracted",
    "a product with -10000",
    "a product with -1e9",
)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_masked_attention_stays_near_to_float(name: str, depth: int) -> None:
    """Several layers share the constant of one mask."""
    graph, samples = _graph(_masks()[name], depth)
    ranges = measure_ranges(graph, samples)["extremes"]
    shortened, fitted = with_finite_masks(graph, ranges)
    for activations, least_db in LEAST_DB.items():
        made = quantizer.quantize(shortened, [FormatRule("int8", activations)], ranges=fitted)  # type: ignore[arg-type]
        (found_db,) = output_snr_db(graph, made, samples)
        assert found_db > least_db, activations
    assert output_snr_db(graph, shortened, samples)[0] > 60, "the float answers hardly change"


def test_sums_without_masks_are_left_alone() -> None:
    graph, samples = _graph(lambda scores, counts: scores + CAUSAL * -2.0 + counts[:, None])
    ranges = measure_ranges(graph, samples)["extremes"]
    assert with_finite_masks(graph, ranges) == (graph, ranges)
