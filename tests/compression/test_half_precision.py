"""Which constants float16 takes: all that it can hold, a layer's kernel and bias together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from harness.compression.graph import quantizer
from harness.compression.graph.quantizer import FormatRule
from harness.compression.judges import run_graph

pytestmark = pytest.mark.training

Read = tuple[str, tuple[str, ...], str]
"""An operator, the types of its constants, and the name of what it writes."""


@pytest.fixture(scope="module")
def graph() -> bytes:
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(3)
    same = keras.initializers.RandomNormal(seed=5)  # equal constants become one in the file, as biases of zeros do
    image = x = keras.Input((8, 8, 8), batch_size=1)
    x = layers.Conv2D(8, 3, padding="same", bias_initializer=same, name="first")(x)
    x = layers.PReLU(alpha_initializer=same, shared_axes=[1, 2])(x)
    x = layers.DepthwiseConv2D(3, activation="relu", bias_initializer=same)(x)
    x = layers.BatchNormalization(gamma_initializer=same, beta_initializer=same)(x)
    x = layers.Conv2DTranspose(4, 3, bias_initializer=same)(x)
    x = layers.Dense(3, bias_initializer=keras.initializers.Constant(1e5), name="large")(layers.Flatten()(x))
    network = keras.Model(image, x / (keras.ops.abs(x) + 1e-12))
    return quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()))


def _constants(content: bytes) -> list[Read]:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (main,) = model.subgraphs
    types = {number: name for name, number in vars(schema.TensorType).items()}
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    names = [kinds[model.operatorCodes[node.opcodeIndex].builtinCode] for node in main.operators]
    halves = {n.outputs[0]: n.inputs[0] for n, k in zip(main.operators, names, strict=True) if k == "DEQUANTIZE"}
    found = []
    for node, kind in zip(main.operators, names, strict=True):
        read = [main.tensors[halves.get(index, index)] for index in node.inputs]
        constants = [tensor for tensor in read if model.buffers[tensor.buffer].data is not None]
        stored = tuple(types[tensor.type] for tensor in constants if types[tensor.type] != "INT32")
        if kind != "DEQUANTIZE" and stored:
            found.append((kind, stored, main.tensors[node.outputs[0]].name.decode()))
    return found


def test_biases_and_other_constants_are_halved(graph: bytes) -> None:
    """TensorFlow's converter stores the same ones, but it cuts off what is too large and loses what is too small."""
    made = quantizer.quantize(graph, [FormatRule("fp16")])
    found = {kind: stored for kind, stored, _ in _constants(made)}
    both, one, floats = ("FLOAT16", "FLOAT16"), ("FLOAT16",), ("FLOAT32", "FLOAT32")
    assert found == {
        **{"CONV_2D": both, "PRELU": one, "DEPTHWISE_CONV_2D": both, "MUL": one, "TRANSPOSE_CONV": both},
        **{"FULLY_CONNECTED": floats, "ADD": ("FLOAT32",)},
    }
    inputs = np.random.default_rng(1).normal(size=(5, 8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run_graph(made, inputs), run_graph(graph, inputs), rtol=1e-2)


def test_a_layer_shares_no_constant_with_other_operators(graph: bytes) -> None:
    """LiteRT 1.1 to 1.3 refuse a depthwise convolution whose bias is also a factor or summand."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(quantizer.quantize(graph, [FormatRule("fp16")])))
    (main,) = model.subgraphs
    readers: dict[int, set[bool]] = {}
    for node in main.operators:
        kind = model.operatorCodes[node.opcodeIndex].builtinCode
        has_kernel = kind in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
        for index in node.inputs[1:]:
            readers.setdefault(int(index), set()).add(has_kernel)
    assert all(len(kinds) == 1 for kinds in readers.values())


@pytest.mark.parametrize(("weights", "activations"), [("int8", "float"), ("int8", "int8")])
def test_layers_chosen_for_fp16_are_halved_next_to_int8(graph: bytes, weights: Any, activations: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from small_graphs import static_ranges

    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    inputs = np.random.default_rng(1).normal(size=(5, 8, 8, 8)).astype(np.float32)
    ranges = static_ranges(graph, [{name: row[None]} for row in inputs]) if activations != "float" else None
    rules = [FormatRule(weights, activations), FormatRule("fp16", match="first")]
    found = {kind: stored for kind, stored, _ in _constants(quantizer.quantize(graph, rules, ranges=ranges))}
    assert found["CONV_2D"] == ("FLOAT16", "FLOAT16")
    assert found["DEPTHWISE_CONV_2D"][0] == "INT8"
