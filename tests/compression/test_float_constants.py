"""Files that pack float weights are float models: they compute as before once unpacked, and every recipe takes them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from harness.compression.graph import quantizer
from harness.compression.graph.float_constants import with_float_constants
from harness.compression.graph.quantizer import FormatRule
from harness.compression.graph.sparse_storage import store_sparse
from harness.compression.judges import run_graph
from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.errors import CompressionError
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.tflite.flatbuffer import read_graph
from harness.tflite.weights import replace_weights, weights

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    """The same network, its weights mostly zeros that float16 holds exactly, as float and as packed in three ways."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(4)
    image = x = keras.Input((8, 8, 16), batch_size=1)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, bias_initializer="ones")(x)
    x = layers.Dense(64)(layers.Flatten()(x))
    network = keras.Model(image, [x, layers.Dense(5)(x)])
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    plain = bytes(converter.convert())
    drawn = np.random.default_rng(2)
    fitted = {
        name: np.where(drawn.random(weight.values.shape) < 0.8, 0, weight.values.astype(np.float16))
        for name, weight in weights(plain).items()
    }
    plain = replace_weights(plain, fitted)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    sparse, _ = store_sparse(plain)
    halves = quantizer.quantize(quantizer.prepare(plain), [FormatRule("fp16")])
    assert read_graph(bytes(converter.convert()), name="converter's").operators == read_graph(halves, name="").operators
    return {"float": plain, "half": halves, "sparse": sparse, "sparse half": _in_half(sparse)}


def _in_half(sparse: bytes) -> bytes:
    """Store sparse tensors in float16, with a DEQUANTIZE after the DENSIFY, as mediapipe's files do."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(sparse))
    (main,) = model.subgraphs
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    for densify in [one for one in main.operators if _kind(model, one) == schema.BuiltinOperator.DENSIFY]:
        packed, dense = main.tensors[densify.inputs[0]], main.tensors[densify.outputs[0]]
        buffer = model.buffers[packed.buffer]
        buffer.data = np.asarray(buffer.data, np.uint8).view("<f4").astype("<f2").view(np.uint8)
        unpacked = copy.copy(dense)
        unpacked.name = b"unpacked"  # the same for all, as in some shipped files
        packed.type = dense.type = schema.TensorType.FLOAT16
        main.tensors.append(unpacked)
        for operator in main.operators:
            moved = {densify.outputs[0]: len(main.tensors) - 1}
            operator.inputs = [moved.get(index, index) for index in operator.inputs]
        dequantize = schema.OperatorT()
        dequantize.opcodeIndex = len(model.operatorCodes) - 1
        dequantize.inputs, dequantize.outputs = densify.outputs, [len(main.tensors) - 1]
        main.operators.insert(main.operators.index(densify) + 1, dequantize)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _kind(model: schema.ModelT, operator: schema.OperatorT) -> int:
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


@pytest.mark.parametrize("packed", ["half", "sparse", "sparse half"])
def test_unpacked_constants_are_plain_and_compute_the_same(graphs: dict[str, bytes], packed: str) -> None:
    made = with_float_constants(graphs[packed])
    facts, wanted = (read_graph(content, name=packed) for content in (made, graphs["float"]))
    assert (facts.operators, facts.weight_types) == (wanted.operators, wanted.weight_types)
    assert facts.weight_types.keys() == {"float32", "int32"}
    inputs = np.random.default_rng(1).normal(size=(5, 8, 8, 16)).astype(np.float32)
    for place in (0, 1):
        np.testing.assert_array_equal(run_graph(made, inputs, place), run_graph(graphs["float"], inputs, place))
    for found, stored in zip(weights(made).values(), weights(graphs["float"]).values(), strict=True):
        np.testing.assert_array_equal(found.values, stored.values)


def test_what_is_not_packed_stays_as_it_is(graphs: dict[str, bytes]) -> None:
    dynamic = quantizer.quantize(quantizer.prepare(graphs["float"]), [FormatRule("int8")])
    for content in (graphs["float"], dynamic):
        assert with_float_constants(content) is content


Write = Callable[[str], str]


@pytest.fixture
def write(graphs: dict[str, bytes], tmp_path: Path) -> Write:
    """Write one of the graphs into a file and return its name."""

    def file(name: str) -> str:
        path = tmp_path / f"{name}.tflite".replace(" ", "-")
        path.write_bytes(graphs[name])
        return str(path)

    return file


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "dynamic-int8"])
def test_recipes_make_of_a_packed_file_what_they_make_of_the_float_one(
    write: Write, tmp_path: Path, recipe: str
) -> None:
    cards = [
        make_variant(
            find_model(write(name)), builtin_recipes()[recipe], cache=tmp_path / "cache", observer=SilentObserver()
        ).card
        for name in ("float", "half", "sparse half")
    ]
    assert len({(*sorted(card.weight_types.items()), *sorted(card.operators.items())) for card in cards}) == 1


def test_integer_weights_are_still_quantized_already(graphs: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / "dynamic.tflite"
    file.write_bytes(quantizer.quantize(quantizer.prepare(graphs["float"]), [FormatRule("int8")]))
    with pytest.raises(CompressionError, match="quantized already"):
        make_variant(find_model(str(file)), builtin_recipes()["fp16"], cache=tmp_path, observer=SilentObserver())
