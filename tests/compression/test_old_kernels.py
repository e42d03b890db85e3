"""Operators that TensorFlow Lite 2.14.1 does not compute in integers: the default target leaves them float."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from official_runtime import run_official
from small_graphs import static_ranges

from harness.compression.graph import quantizer
from harness.compression.graph.quantizer import FormatRule

pytestmark = [pytest.mark.training]

SHAPE = (1, 4, 4, 3)
INTEGERS = {schema.TensorType.INT8, schema.TensorType.INT16}


def _with_a_row_replaced(x: Any) -> Any:
    from tensorflow.compiler.tf2xla.python import xla

    return xla.dynamic_update_slice(x, x[:, :1] * x[:, :1], np.int32([0, 1, 0, 0]))


def _operations() -> dict[str, Callable[[Any], Any]]:
    import tensorflow as tf

    return {
        "DIV": lambda x: x / (x * x + 0.5),
        "DYNAMIC_UPDATE_SLICE": _with_a_row_replaced,
        "GELU": lambda x: tf.nn.gelu(x - 0.5),
        "MUL": lambda x: tf.reshape(x, [1, 2, 2, 4, 3]) * tf.reshape(x[:, :1, :1], [1, 1, 1, 1, 3]),
        "NOT_EQUAL": lambda x: tf.cast(tf.not_equal(x, 0.5 * x[:, ::-1]), tf.float32) + x,
        "RSQRT": lambda x: tf.math.rsqrt(x + 0.5),
        "SQRT": lambda x: tf.sqrt(x + 0.5),
        "SUM": lambda x: tf.reduce_sum(x, [1, 2]),
        "TRANSPOSE": lambda x: tf.transpose(x, [0, 3, 1, 2]),
    }


CASES = [
    *(("int8", name) for name in ("DIV", "SQRT")),
    *(
        ("int16", name)
        for name in ("DIV", "DYNAMIC_UPDATE_SLICE", "GELU", "MUL", "NOT_EQUAL", "RSQRT", "SQRT", "SUM", "TRANSPOSE")
    ),
]


def _inputs(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1.3, SHAPE).astype(np.float32)


def _float_graph(name: str) -> tuple[bytes, np.ndarray]:
    """Return a graph around one operator and what TensorFlow computes."""
    import tensorflow as tf

    operation = _operations()[name]
    function = tf.function(operation, input_signature=[tf.TensorSpec(SHAPE, tf.float32, "x")], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    return quantizer.prepare(bytes(converter.convert())), np.asarray(operation(_inputs(9)))


def _quantize(graph: bytes, activations: Any, *, newest_kernels: bool) -> bytes:
    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    ranges = static_ranges(graph, [{name: _inputs(seed)} for seed in range(10)])
    rules = [FormatRule("int8", activations)]
    return quantizer.quantize(graph, rules, ranges=ranges, newest_kernels=newest_kernels)


def _reads_integers(graph: bytes, name: str) -> bool:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    (main,) = model.subgraphs
    (node,) = (
        node
        for node in main.operators
        if model.operatorCodes[node.opcodeIndex].builtinCode == getattr(schema.BuiltinOperator, name)
    )
    return main.tensors[node.inputs[0]].type in INTEGERS


@pytest.mark.official_tool
@pytest.mark.parametrize(("activations", "name"), CASES)
def test_an_operator_without_an_old_kernel_stays_float(
    activations: str, name: str, official_tools: Path, tmp_path: Path
) -> None:
    graph, wanted = _float_graph(name)
    made = _quantize(graph, activations, newest_kernels=False)
    assert not _reads_integers(made, name)
    assert _reads_integers(_quantize(graph, activations, newest_kernels=True), name)
    path = tmp_path / "graph.tflite"
    path.write_bytes(made)
    for flag in ("--use_xnnpack=true", "--use_xnnpack=false"):
        done = run_official(official_tools, path, _inputs(9), tmp_path, flag)
        assert done.returncode == 0, done.stderr
        found = np.fromfile(tmp_path / "out.bin", np.float32).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=0.03 * float(np.ptp(wanted)))


@pytest.mark.official_tool
@pytest.mark.parametrize("name", ["ADD", "SUB"])
def test_scales_that_are_powers_of_two_are_like_others(name: str, official_tools: Path, tmp_path: Path) -> None:
    """Inputs from 0 to 1 have the scale 1/32767, which the kernels take for such a power."""
    import tensorflow as tf

    ones = [np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)]

    @tf.function(input_signature=[tf.TensorSpec(SHAPE, tf.float32, "x")], autograph=False)
    def compute(x: Any) -> Any:
        return 0.25 * x + x * x * 0.75 if name == "ADD" else x - 2 * x * x

    converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()], compute)
    graph = quantizer.prepare(bytes(converter.convert()))
    (entry,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    ranges = static_ranges(graph, [{entry: values} for values in ones])
    made = quantizer.quantize(graph, [FormatRule("int8", "int16")], ranges=ranges)
    inputs = _inputs(9) / 1.3
    wanted = np.asarray(compute(inputs))
    (here,) = Interpreter(model_content=made).get_signature_runner()(**{entry: inputs}).values()
    np.testing.assert_allclose(here, wanted, atol=0.001)
    path = tmp_path / "graph.tflite"
    path.write_bytes(made)
    done = run_official(official_tools, path, inputs, tmp_path, "--use_xnnpack=false")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.fromfile(tmp_path / "out.bin", np.float32), wanted.ravel(), atol=0.001)
