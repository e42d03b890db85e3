"""Rounding that lets a layer's errors cancel: against the plain form of the algorithm, and TensorFlow's own patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from harness.compression.graph import quantizer
from harness.compression.graph.input_moments import measure_input_moments
from harness.compression.graph.quantizer import FormatRule
from harness.compression.graph.ranges import measure_ranges
from harness.compression.judges import run_graph
from harness.compression.weights.error_aware import DAMPING, round_by_inputs
from harness.compression.weights.rounding import quantize_weight
from harness.tflite.flatbuffer import signature_keys
from harness.tflite.weights import weights

Array = NDArray[np.float64]


def _correlated(samples: int, inputs: int, seed: int) -> Array:
    """Return inputs that share few sources, as the channels of a network do."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(samples, inputs // 4)) @ draw.normal(size=(inputs // 4, inputs)) + draw.normal(
        size=(samples, inputs), scale=0.1
    )


def _plainly(row: Array, scale: float, moments: Array, limit: int) -> Array:
    """Optimal brain quantization in the order of the inputs' sizes: the inverse is updated after every weight."""
    inverse = np.linalg.inv(moments + DAMPING * np.diag(moments).mean() * np.eye(len(moments)))
    row, codes = row.copy(), np.zeros(len(row))
    for place in np.argsort(-np.diag(moments), kind="stable"):
        codes[place] = 0 if row[place] == 0 else np.clip(np.round(row[place] / scale), -limit, limit)
        error = (row[place] - codes[place] * scale) / inverse[place, place]
        row = row - error * inverse[place]
        inverse = inverse - np.outer(inverse[:, place], inverse[place]) / inverse[place, place]
        inverse[place] = inverse[:, place] = 0
        inverse[place, place] = 1
    return codes


@pytest.mark.parametrize("inputs", [12, 200])
def test_codes_are_those_of_the_algorithm_in_its_plain_form(inputs: int) -> None:
    x = _correlated(400, inputs, seed=1)
    moments = x.T @ x / len(x)
    rows = np.random.default_rng(2).normal(size=(5, inputs))
    scales = np.abs(rows).max(axis=1) / 7
    found = round_by_inputs(rows, scales, moments[None], 7)
    wanted = [_plainly(row, scale, moments, 7) for row, scale in zip(rows, scales, strict=True)]
    assert np.mean(found != wanted) < 0.01, "but for ties"


def test_outputs_are_nearer_than_by_rounding_each_weight_to_the_nearest() -> None:
    x = _correlated(400, 64, seed=3)
    rows = np.random.default_rng(4).normal(size=(16, 64))
    moments = (x.T @ x / len(x))[None]
    errors = []
    for known in (moments, None):
        codes, scales = quantize_weight(rows, 4, axis=0, rule="largest", moments=known)
        errors.append(np.square(x @ (codes * scales[:, None] - rows).T).mean())
    assert errors[0] < errors[1] / 4


def test_zeros_stay_and_channels_have_inputs_of_their_own() -> None:
    draw = np.random.default_rng(5)
    kernel = draw.normal(size=(1, 3, 3, 6))
    kernel[draw.random(kernel.shape) < 0.5] = 0
    x = np.stack([_correlated(300, 9, seed) for seed in range(6)])
    moments = x.swapaxes(1, 2) @ x / 300
    codes, scales = quantize_weight(kernel, 4, axis=3, rule="least-error", output_axis=3, moments=moments)
    assert codes.shape == kernel.shape
    assert (codes[kernel == 0] == 0).all()
    for channel in range(6):
        row = kernel[..., channel].reshape(1, 9)
        alone, _ = quantize_weight(row, 4, axis=0, rule="least-error", moments=moments[channel : channel + 1])
        np.testing.assert_array_equal(codes[..., channel].reshape(1, 9), alone)
    assert scales.shape == (6,)


def test_inputs_that_never_move_are_rounded_to_the_nearest() -> None:
    rows = np.random.default_rng(6).normal(size=(3, 8))
    codes, scales = quantize_weight(rows, 4, axis=0, rule="largest", moments=np.zeros((1, 8, 8)))
    np.testing.assert_array_equal(codes, np.round(rows / scales[:, None]))


LAYERS: dict[str, dict[str, Any]] = {
    "same, stride 2": {"strides": 2, "padding": "same"},
    "valid": {"padding": "valid"},
    "dilated": {"dilation_rate": 2, "padding": "valid"},
    "same, even kernel": {"kernel_size": (2, 4), "padding": "same"},
}


@pytest.mark.training
@pytest.mark.parametrize("settings", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_moments_are_those_of_tensorflows_patches(kind: str, settings: dict[str, Any]) -> None:
    import keras
    import tensorflow as tf

    settings = {"kernel_size": 3, **settings}
    image = keras.Input((7, 9, 4), batch_size=1)
    first = {"filters": 5} if kind == "Conv2D" else {"depth_multiplier": 2}
    layer = getattr(keras.layers, kind)(**first, **settings)
    network = keras.Model(image, layer(image))
    graph = quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()))
    images = np.random.default_rng(7).normal(size=(3, 1, 7, 9, 4)).astype(np.float32)
    (key,) = signature_keys(graph)
    (name,) = Interpreter(model_content=graph).get_signature_runner(key).get_input_details()
    found = measure_input_moments(graph, {key: [{name: one} for one in images]})
    height, width = np.broadcast_to(settings["kernel_size"], 2)
    stride, rate = settings.get("strides", 1), settings.get("dilation_rate", 1)
    patches = tf.image.extract_patches(
        images[:, 0],
        [1, height, width, 1],
        [1, stride, stride, 1],
        [1, rate, rate, 1],
        settings["padding"].upper(),
    ).numpy()
    rows = patches.reshape(-1, height * width, 4).astype(np.float64)
    (moments,) = found.values()
    if kind == "Conv2D":
        flat = rows.reshape(len(rows), -1)
        np.testing.assert_allclose(moments[0], flat.T @ flat / len(flat), rtol=1e-4, atol=1e-5)
    else:
        for channel in range(8):
            own = rows[:, :, channel // 2]
            np.testing.assert_allclose(moments[channel], own.T @ own / len(own), rtol=1e-4, atol=1e-5)


@pytest.mark.training
def test_a_network_answers_nearer_to_its_float_self() -> None:
    """On inputs that it was not fitted to, with a scale per channel and with one per tensor."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(8)
    image = x = keras.Input((12, 12, 3), batch_size=1)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, activation="relu")(x)
    x = layers.Conv2D(32, 1, activation="relu")(x)
    network = keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))
    graph = quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()))
    draw = np.random.default_rng(9)
    smooth = np.cumsum(np.cumsum(draw.normal(size=(64, 12, 12, 3)), axis=1), axis=2).astype(np.float32) / 12
    (key,) = signature_keys(graph)
    (name,) = Interpreter(model_content=graph).get_signature_runner(key).get_input_details()
    samples = {key: [{name: one[None]} for one in smooth[:32]]}
    ranges, moments = measure_ranges(graph, samples)["extremes"], measure_input_moments(graph, samples)
    assert len(moments) == len(weights(graph)) == 4
    wanted = run_graph(graph, smooth[32:])
    grains: tuple[Any, ...] = ("channel", "tensor")
    for grain in grains:
        rules = [FormatRule("int4", "int16", grain)]  # int16: what is left is the error of the weights
        errors = [
            np.square(run_graph(quantizer.quantize(graph, rules, ranges=ranges, moments=known), smooth[32:]) - wanted)
            for known in (moments, None)
        ]
        assert errors[0].sum() < errors[1].sum() / 2, grain
