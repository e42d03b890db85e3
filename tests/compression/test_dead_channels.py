"""Channels whose weights are all zero, in an int8 graph: they stay what their bias says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from official_runtime import run_official
from small_graphs import dense_graph, static_int8

from harness.compression.graph import quantizer
from harness.compression.graph.quantizer import repair_dead_channels
from harness.tflite.weights import replace_weights, weights

pytestmark = pytest.mark.training

Array = NDArray[np.float32]
SHAPE = (1, 6, 6, 3)
DEAD = {"CONV_2D": [0, 3], "DEPTHWISE_CONV_2D": [2], "TRANSPOSE_CONV": [5], "FULLY_CONNECTED": [1, 4]}


def _inputs(seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, SHAPE).astype(np.float32)


def _float_graph(dead: dict[str, list[int]]) -> bytes:
    """Every operator with a kernel and a bias; the channels named have no weights."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(8)
    biases = keras.initializers.RandomUniform(0.5, 1.5)
    image = x = layers.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(4, 3, activation="relu", bias_initializer=biases)(x)
    x = layers.DepthwiseConv2D(3, activation="relu", bias_initializer=biases)(x)
    x = layers.Conv2DTranspose(6, 3, 2, activation="relu", bias_initializer=biases)(x)
    network = keras.Model(image, layers.Dense(5, bias_initializer=biases)(layers.Flatten()(x)))
    graph = bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    changed = {}
    for name, weight in weights(graph).items():
        values = np.moveaxis(weight.values.copy(), weight.output_channel_axis, 0)
        values[dead.get(weight.operator, [])] = 0
        changed[name] = np.moveaxis(values, 0, weight.output_channel_axis)
    return quantizer.ensure_signature(replace_weights(graph, changed))


def _int8(graph: bytes) -> bytes:
    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    samples = [{name: _inputs(seed)} for seed in range(16)]
    return static_int8(graph, samples)


@pytest.fixture(scope="module")
def graphs() -> tuple[bytes, bytes]:
    """The float graph, and what the quantizer's door makes of it."""
    graph = _float_graph(DEAD)
    return graph, _int8(graph)


def _host(graph: bytes, resolver: OpResolverType) -> Array:
    interpreter = Interpreter(model_content=graph, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _inputs(99))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def _assert_near(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, atol=0.05 * float(np.ptp(wanted)))


@pytest.mark.parametrize("resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
def test_litert_computes_nearly_what_the_float_graph_does(
    graphs: tuple[bytes, bytes], resolver: OpResolverType
) -> None:
    plain, quantized = graphs
    _assert_near(_host(quantized, resolver), _host(plain, resolver))


@pytest.mark.official_tool
@pytest.mark.parametrize("flag", ["--use_xnnpack=true", "--use_xnnpack=false"])
def test_2_14_computes_nearly_what_the_float_graph_does(
    graphs: tuple[bytes, bytes], official_tools: Path, tmp_path: Path, flag: str
) -> None:
    outputs = []
    for graph in graphs:
        path = tmp_path / "graph.tflite"
        path.write_bytes(graph)
        done = run_official(official_tools, path, _inputs(99), tmp_path, flag)
        assert done.returncode == 0, done.stderr
        outputs.append(np.fromfile(tmp_path / "out.bin", np.float32))
    plain, quantized = outputs
    _assert_near(quantized, plain)


def test_a_graph_without_dead_channels_keeps_every_byte() -> None:
    graph = _float_graph({})
    quantized = _int8(graph)
    assert repair_dead_channels(quantized, graph) == quantized


@pytest.mark.parametrize(
    "make",
    [bytes, *(partial(quantizer.quantize, rules=[quantizer.FormatRule(weights)]) for weights in ("fp16", "int8"))],
)
def test_graphs_with_float_biases_keep_every_byte(graphs: tuple[bytes, bytes], make: Callable[[bytes], bytes]) -> None:
    other = make(graphs[0])
    assert repair_dead_channels(other, graphs[0]) == other


def test_a_layer_without_bias_keeps_every_byte() -> None:
    graph = quantizer.ensure_signature(dense_graph(weights=np.eye(4, 16, k=-1, dtype=np.float32)))
    samples = [{"in": np.random.default_rng(seed).normal(size=(1, 16)).astype(np.float32)} for seed in range(4)]
    quantized = static_int8(graph, samples)
    assert repair_dead_channels(quantized, graph) == quantized
