"""Channels whose weights are zero or next to nothing, in an integer graph: they stay what their bias says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from official_runtime import run_official
from small_graphs import static_ranges

from harness.compression.graph import quantizer
from harness.compression.graph.quantizer import FormatRule
from harness.compression.weights import rounding
from harness.errors import CompressionError
from harness.tflite.weights import replace_weights, weights

pytestmark = pytest.mark.training

Array = NDArray[np.float32]
SHAPE = (1, 6, 6, 3)
DEAD = {"CONV_2D": [0, 3], "DEPTHWISE_CONV_2D": [2], "TRANSPOSE_CONV": [5], "FULLY_CONNECTED": [1, 4]}


def _inputs(seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, SHAPE).astype(np.float32)


def _float_graph(size: float) -> bytes:
    """Every operator with a kernel and a bias; the weights of the channels of `DEAD` are multiplied by `size`."""
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
        values[DEAD[weight.operator]] *= size
        changed[name] = np.moveaxis(values, 0, weight.output_channel_axis)
    return quantizer.prepare(replace_weights(graph, changed))


def _quantized(graph: bytes, rule: FormatRule, **settings: Any) -> bytes:
    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    ranges = static_ranges(graph, [{name: _inputs(seed)} for seed in range(16)])
    return quantizer.quantize(graph, [rule], ranges=ranges, **settings)


@pytest.fixture(scope="module", params=[0, 1e-40, 1e-20, 1e-6])
def plain(request: pytest.FixtureRequest) -> bytes:
    """The float graph, with channels of one size."""
    return _float_graph(request.param)


@pytest.fixture(scope="module")
def graphs(plain: bytes) -> tuple[bytes, bytes]:
    """The float graph, and what the quantizer's door makes of it."""
    return plain, _quantized(plain, FormatRule("int8", "int8"))


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


FORMATS = {
    "int16x8": (FormatRule("int8", "int16"), {}),
    "int8-tensor": (FormatRule("int8", "int8", "tensor"), {}),
    "least-error": (FormatRule("int8", "int8"), {"scale": "least-error"}),
    "int4": (FormatRule("int4", "int8"), {"newest_kernels": True}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_computes_what_the_float_graph_does(plain: bytes, name: str) -> None:
    rule, settings = FORMATS[name]
    quantized = _quantized(plain, rule, **settings)
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    found, wanted = _host(quantized, resolver), _host(plain, resolver)
    share = 0.3 if rule.weights == "int4" else 0.05
    np.testing.assert_allclose(found, wanted, atol=share * float(np.ptp(wanted)))


def test_biases_are_what_the_float_graph_says() -> None:
    """Read from the file: code times scale, for every channel."""
    graph = _float_graph(1e-6)
    quantized, wanted = (_constants(content) for content in (_quantized(graph, FormatRule("int8", "int8")), graph))
    compared = 0
    for name, (codes, scales) in quantized.items():
        if codes.dtype == np.int32 and scales.size:
            np.testing.assert_allclose(
                codes * scales.astype(np.float64), wanted[name.split("_duplicated")[0]][0], rtol=0.005
            )
            compared += 1
    assert compared == len(DEAD)


def _constants(graph: bytes) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return the values and scales of all tensors that have values before a run."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=graph, experimental_op_resolver_type=resolver)
    found = {}
    for detail in interpreter.get_tensor_details():
        with contextlib.suppress(ValueError):
            scales = detail["quantization_parameters"]["scales"]
            found[detail["name"]] = interpreter.get_tensor(detail["index"]), scales
    return found


def test_a_bias_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "_LARGEST_BIAS", 2**60)
    with pytest.raises(CompressionError, match=r"Cannot store the bias of .*, channel \d"):
        _quantized(_float_graph(1e-6), FormatRule("int8", "int8"))
