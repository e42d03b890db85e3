"""Inputs and outputs come in the model's own order, however the converter lists them in the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from small_graphs import static_ranges

from harness.compression.graph import quantizer
from harness.compression.sources.load import convert
from harness.compression.sources.saved_model import convert_saved_model
from harness.tflite.flatbuffer import read_graph
from harness.tflite.interpreter import interpret
from harness.tflite.tensors import decode, encode, file_order, split_outputs

Graph = Callable[[bytes], bytes]


def unchanged(graph: bytes) -> bytes:
    return graph


def quantized(graph: bytes) -> bytes:
    """Return the graph in int8, also at its ends."""
    from ai_edge_litert.interpreter import Interpreter

    graph = quantizer.prepare(graph)
    shapes = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    random = np.random.default_rng(0)
    samples = [
        {name: random.normal(size=found["shape"]).astype(np.float32) for name, found in shapes.items()}
        for _ in range(100)
    ]
    ranges = static_ranges(graph, samples)
    return quantizer.quantize(graph, [quantizer.FormatRule("int8", "int8")], ranges=ranges, float_io=False)


def outputs_of(graph: bytes, inputs: list[Any], folder: Path) -> list[Any]:
    """Run a graph as the reference does."""
    (folder / "graph.tflite").write_bytes(graph)
    facts = read_graph(graph, name="graph")
    given = [encode(array, tensor) for array, tensor in zip(inputs, facts.inputs, strict=True)]
    found = interpret(str(folder / "graph.tflite"), given, 1)
    return [decode(array, tensor) for array, tensor in zip(found, facts.outputs, strict=True)]


def near(found: list[Any], exact: list[Any]) -> bool:
    """Return True if each output correlates with its own; a swapped one does not."""
    return all(np.corrcoef(new.ravel(), old.ravel())[0, 1] > 0.95 for new, old in zip(found, exact, strict=True))


def heads(count: int) -> Any:
    import keras

    keras.utils.set_random_seed(count)
    inputs = keras.Input((8,))
    middle = keras.layers.Dense(6, activation="tanh")(inputs)
    return keras.Model(inputs, [keras.layers.Dense(5)(middle) for _ in range(count)])


@pytest.mark.parametrize("change", [unchanged, quantized])
@pytest.mark.parametrize("count", [2, 3, 12])  # the alphabet sorts output_10 before output_2
def test_outputs_come_in_the_order_of_keras(count: int, change: Graph, tmp_path: Path) -> None:
    model = heads(count)
    inputs = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    graph = convert(model)
    places = [tensor.file_place for tensor in read_graph(graph, name="graph").outputs]
    assert places != sorted(places, key=int), "the converter's own order is the model's: nothing is tested"
    assert near(outputs_of(change(graph), [inputs], tmp_path), model.predict(inputs, verbose=0))


@pytest.mark.parametrize("kind", ["list", "dictionary"])
def test_inputs_come_in_the_order_of_keras(kind: str, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    inputs = {name: keras.Input((place % 3 + 1,), name=name) for place, name in enumerate("zyxwvutsrqpo")}
    joined = keras.layers.Concatenate()(list(inputs.values())[::-1])
    model = keras.Model(inputs if kind == "dictionary" else list(inputs.values()), keras.layers.Dense(4)(joined))
    random = np.random.default_rng(2)
    given = [random.normal(size=(40, tensor.shape[1])).astype(np.float32) for tensor in model.inputs]
    named = dict(zip(sorted(inputs), given, strict=True)) if kind == "dictionary" else given
    exact = model.predict(named, verbose=0)
    np.testing.assert_allclose(outputs_of(convert(model), given, tmp_path)[0], exact, rtol=1e-4, atol=1e-5)


def test_a_saved_model_keeps_the_names_of_its_signature(tmp_path: Path) -> None:
    import tensorflow as tf

    class Two(tf.Module):  # type: ignore[misc] # TensorFlow has no types
        @tf.function(input_signature=[tf.TensorSpec((None, 4)), tf.TensorSpec((None, 4))])  # type: ignore[misc]
        def serve(self, zebra: Any, ant: Any) -> Any:
            return {"scores": zebra * 2.0, "box": ant + 1.0}

        @tf.function(input_signature=[tf.TensorSpec((None, 4))])  # type: ignore[misc]
        def other(self, only: Any) -> Any:
            return {"else": only}

    module = Two()
    tf.saved_model.save(module, tmp_path / "saved", signatures={"serving_default": module.serve, "other": module.other})
    graph = convert_saved_model(tmp_path / "saved")
    facts = read_graph(graph, name="graph")
    assert [tensor.title for tensor in facts.inputs] == ["ant", "zebra"]
    assert [tensor.title for tensor in facts.outputs] == ["box", "scores"]
    ant, zebra = np.full((2, 4), 3, np.float32), np.full((2, 4), 5, np.float32)
    box, scores = outputs_of(graph, [ant, zebra], tmp_path)
    assert (box == 4).all()
    assert (scores == 10).all()


@pytest.mark.parametrize("change", [unchanged, quantized])
def test_without_a_signature_the_files_order_counts(change: Graph, tmp_path: Path) -> None:
    model = heads(3)
    stripped = flatbuffer_utils.read_model_from_bytearray(bytearray(convert(model)))
    stripped.signatureDefs = []
    graph = bytes(flatbuffer_utils.convert_object_to_bytearray(stripped))
    facts = read_graph(graph, name="graph")
    order = [int(tensor.name.rsplit(":", 1)[1]) for tensor in facts.outputs]  # Keras numbers the tensors
    assert [tensor.file_place for tensor in facts.outputs] == [0, 1, 2]
    inputs = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    exact = model.predict(inputs, verbose=0)
    assert near(outputs_of(change(graph), [inputs], tmp_path), [exact[place] for place in order])


def test_the_tools_file_is_cut_in_the_files_order() -> None:
    tensors = read_graph(convert(heads(3)), name="graph").outputs
    listed = [np.full((2, 5), place, np.float32) for place in range(3)]
    written = b"".join(array.tobytes() for array in listed)
    found = split_outputs(written, tensors, [(5,)] * 3, 2)
    assert [array[0, 0] for array in found] == [tensor.file_place for tensor in tensors]
    assert [tensors[place].file_place for place in file_order(tensors)] == [0, 1, 2]
