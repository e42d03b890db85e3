"""Sparse kernels in graphs: they compute what the dense ones do, in LiteRT and in the official tool 2.14.1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray
from official_runtime import run_official
from small_graphs import dense_graph, static_int8

from harness.compression.graph import quantizer
from harness.compression.graph.sparse_storage import OVERHEAD_BYTES, SparseReport, store_sparse
from harness.tflite.flatbuffer import read_graph
from harness.tflite.weights import replace_weights, weights

Array = NDArray[np.float32]
SHAPE = (1, 8, 8, 16)
ZEROS = 0.8


def _mostly_zeros(values: Array, seed: int, share: float = ZEROS) -> Array:
    return np.where(np.random.default_rng(seed).random(values.shape) < share, 0, values).astype(np.float32)


def _dense(shape: tuple[int, int] = (64, 128), share: float = ZEROS) -> bytes:
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return dense_graph(weights=_mostly_zeros(values, 2, share))


def _image(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def _host(graph: bytes, inputs: Array, *, xnnpack: bool) -> Array:
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=graph, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _main_graph(graph: bytes) -> tuple[schema.ModelT, schema.SubGraphT]:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    return model, model.subgraphs[0]


@pytest.fixture(scope="module")
def float_graph() -> bytes:
    """Every operator with a kernel, each large enough to be worth it, 80 % of the weights zero."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(5)
    image = x = layers.Input(SHAPE[1:], batch_size=1)
    x = layers.Conv2D(32, 3, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=16, activation="relu", depthwise_initializer="he_normal")(x)
    x = layers.Conv2D(32, 1, activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Conv2DTranspose(16, 3, 2, activation="relu", kernel_initializer="he_normal")(x)
    network = keras.Model(image, layers.Dense(24)(layers.Flatten()(x)))
    graph = bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    found = enumerate(weights(graph).values())
    # Divided so that the activations keep their size: outputs near zero would prove nothing.
    scaled = {weight.name: _mostly_zeros(weight.values, number) / (1 - ZEROS) ** 0.5 for number, weight in found}
    return quantizer.prepare(replace_weights(graph, scaled))


def _static_int8(graph: bytes) -> bytes:
    runner = Interpreter(model_content=graph).get_signature_runner()
    (name,) = runner.get_input_details()
    samples = [{name: _image(seed)} for seed in range(4)]
    return static_int8(graph, samples)


FORMS: dict[str, tuple[Callable[[bytes], bytes], set[str]]] = {
    "float32": (bytes, {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}),
    "int8": (_static_int8, {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}),
}


@pytest.fixture(scope="module", params=FORMS)
def stored(request: pytest.FixtureRequest, float_graph: bytes) -> tuple[bytes, bytes, SparseReport, set[str]]:
    """Return the dense graph, the sparse one, the report, and which operators get a sparse kernel."""
    form, operators = FORMS[request.param]
    dense = form(float_graph)
    return dense, *store_sparse(dense), operators


@pytest.mark.training
@pytest.mark.parametrize("xnnpack", [True, False])
def test_litert_computes_exactly_what_it_did(
    stored: tuple[bytes, bytes, SparseReport, set[str]], xnnpack: bool
) -> None:
    dense, sparse, _, _ = stored
    wanted = _host(dense, _image(9), xnnpack=xnnpack)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_array_equal(_host(sparse, _image(9), xnnpack=xnnpack), wanted)


@pytest.mark.training
@pytest.mark.official_tool
@pytest.mark.parametrize("flag", ["--use_xnnpack=true", "--use_xnnpack=false"])
def test_2_14_computes_exactly_what_it_did(
    stored: tuple[bytes, bytes, SparseReport, set[str]], official_tools: Path, tmp_path: Path, flag: str
) -> None:
    outputs = []
    for graph in stored[:2]:
        path = tmp_path / "graph.tflite"
        path.write_bytes(graph)
        done = run_official(official_tools, path, _image(9), tmp_path, flag)
        assert done.returncode == 0, done.stderr
        outputs.append(np.fromfile(tmp_path / "out.bin", np.float32))
    assert np.abs(outputs[0]).max() > 0.1
    np.testing.assert_array_equal(*outputs)


@pytest.mark.training
def test_the_kernels_become_sparse_with_a_dense_twin_of_the_same_scales(
    stored: tuple[bytes, bytes, SparseReport, set[str]],
) -> None:
    _, sparse, report, operators = stored
    facts = read_graph(sparse, name="sparse")
    assert facts.operators["DENSIFY"] == len(report.stored) == sum(facts.operators[name] for name in operators)
    assert facts.operator_versions["DENSIFY"] == 1
    model, graph = _main_graph(sparse)
    for node in graph.operators:
        if model.operatorCodes[node.opcodeIndex].builtinCode != schema.BuiltinOperator.DENSIFY:
            continue
        before, after = (graph.tensors[index] for index in (node.inputs[0], node.outputs[0]))
        assert before.sparsity is not None
        assert after.sparsity is None
        assert (list(before.shape), before.type) == (list(after.shape), after.type)
        if before.quantization is not None:
            np.testing.assert_array_equal(before.quantization.scale, after.quantization.scale)
            np.testing.assert_array_equal(before.quantization.zeroPoint, after.quantization.zeroPoint)
            assert before.quantization.quantizedDimension == after.quantization.quantizedDimension


@pytest.mark.training
def test_the_report_counts_the_bytes(stored: tuple[bytes, bytes, SparseReport, set[str]]) -> None:
    dense, sparse, report, _ = stored
    assert (report.bytes_before, report.bytes_after) == (len(dense), len(sparse))
    saved = sum(tensor.dense_bytes - tensor.sparse_bytes for tensor in report.stored)
    assert abs(saved - (len(dense) - len(sparse))) < OVERHEAD_BYTES * len(report.stored) / 2
    assert "GPU" in report.advice


@pytest.mark.training
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda graph: quantizer.quantize(graph, [quantizer.FormatRule("fp16")]), "a DEQUANTIZE behind DENSIFY"),
        (lambda graph: quantizer.quantize(graph, [quantizer.FormatRule("int8")]), "next to float activations"),
        (_static_int8, "refuse dense layers"),
    ],
    ids=["fp16", "dynamic-int8", "int8"],
)
def test_what_a_runtime_refuses_or_gets_wrong_stays_dense(
    float_graph: bytes, make: Callable[[bytes], bytes], says: str
) -> None:
    dense = make(float_graph)
    sparse, report = store_sparse(dense)
    assert any(says in tensor.kept_dense for tensor in report.tensors)
    assert len(report.tensors) == 5
    np.testing.assert_array_equal(_host(sparse, _image(9), xnnpack=True), _host(dense, _image(9), xnnpack=True))


def test_a_kernel_of_two_layers_is_unpacked_once_before_the_first() -> None:
    model, graph = _main_graph(_dense((128, 128)))
    last, second = schema.TensorT(), schema.OperatorT()
    vars(last).update(vars(graph.tensors[2]))
    vars(second).update(vars(graph.operators[0]))
    graph.tensors.append(last)
    second.inputs, second.outputs = [2, 1], [3]
    graph.operators.append(second)
    graph.outputs = [3]
    dense = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    sparse, report = store_sparse(dense)
    assert [tensor.name for tensor in report.stored] == ["weights"]
    model, graph = _main_graph(sparse)
    operators = [model.operatorCodes[node.opcodeIndex].builtinCode for node in graph.operators]
    kinds = schema.BuiltinOperator
    assert operators == [kinds.DENSIFY, kinds.FULLY_CONNECTED, kinds.FULLY_CONNECTED]
    inputs = np.random.default_rng(4).normal(size=(1, 128)).astype(np.float32)
    np.testing.assert_array_equal(_host(sparse, inputs, xnnpack=False), _host(dense, inputs, xnnpack=False))


@pytest.mark.parametrize("xnnpack", [True, False])
def test_blocks_of_zeros_are_stored_as_blocks(xnnpack: bool) -> None:
    random = np.random.default_rng(6)
    kept = np.kron(random.random((16, 32)) < 0.25, np.ones((4, 4)))
    dense = dense_graph(weights=(random.normal(size=kept.shape) * kept).astype(np.float32))
    sparse, report = store_sparse(dense)
    assert "blocks of 4x4" in report.tensors[0].layout
    inputs = random.normal(size=(1, 128)).astype(np.float32)
    np.testing.assert_array_equal(_host(sparse, inputs, xnnpack=xnnpack), _host(dense, inputs, xnnpack=xnnpack))


def test_a_kernel_of_zeros_alone_computes_zeros() -> None:
    sparse, report = store_sparse(_dense(share=1.0))
    assert report.stored[0].sparsity == 1
    assert not _host(sparse, np.ones((1, 128), np.float32), xnnpack=True).any()


def test_a_sparse_file_stays_as_it_is() -> None:
    sparse, _ = store_sparse(_dense())
    again, report = store_sparse(sparse)
    assert again == sparse
    assert report.tensors == ()


def _shared(dense: bytes) -> bytes:
    model, graph = _main_graph(dense)
    twin = schema.TensorT()
    vars(twin).update(vars(graph.tensors[1]))
    graph.tensors.append(twin)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _also_output(dense: bytes) -> bytes:
    model, graph = _main_graph(dense)
    graph.outputs = [2, 1]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _also_added(dense: bytes) -> bytes:
    model, graph = _main_graph(dense)
    code, node = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    model.operatorCodes.append(code)
    node.opcodeIndex, node.inputs, node.outputs = 1, [1, 1], [0]
    graph.operators.append(node)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _without_densify(dense: bytes) -> bytes:
    """Return a graph whose dense layer reads the sparse kernel itself, as TensorFlow's converter makes them."""
    model, graph = _main_graph(store_sparse(dense)[0])
    del graph.operators[0]
    graph.operators[0].inputs = [0, 1]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _with_other_zero(dense: bytes) -> bytes:
    model, graph = _main_graph(dense)
    scales = schema.QuantizationParametersT()
    scales.scale, scales.zeroPoint = [0.1], [3]
    graph.tensors[1].quantization = scales
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (_dense(share=0.3), "fewer than 50% of it are zeros"),
        (_dense((8, 8)), "would not get smaller"),
        (_shared(_dense()), "several tensors share it"),
        (_also_output(_dense()), "output of the model"),
        (_also_added(_dense()), "ADD uses it too"),
        (_without_densify(_dense()), "sparse already"),
        (_with_other_zero(_dense()), "does not stand for zero"),
    ],
)
def test_what_cannot_be_stored_sparse_is_left_with_its_reason(graph: bytes, says: str) -> None:
    result, report = store_sparse(graph)
    assert result == graph
    assert report.bytes_after == report.bytes_before
    (tensor,) = report.tensors
    assert says in tensor.kept_dense
    assert not report.stored
    assert not report.advice


def test_the_share_of_zeros_asked_for_decides() -> None:
    graph = _dense(share=0.45)
    assert not store_sparse(graph)[1].stored
    result, report = store_sparse(graph, minimum_sparsity=0.4)
    assert report.stored
    assert len(result) < len(graph)
