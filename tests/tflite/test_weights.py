"""Reading and replacing a graph's weights, against a NumPy reference of the network."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from small_graphs import INPUT_SIZE, OUTPUT_SIZE, dense_graph

from harness.errors import CompressionError, FailureClass
from harness.tflite.weights import replace_weights, weights

DENSE = dense_graph()
Array = NDArray[np.float32]


def _run(graph: bytes, inputs: Array) -> Array:
    interpreter = Interpreter(model_content=graph)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.fixture(scope="module")
def convolutions() -> bytes:
    """A float graph of every operator with a kernel, without biases: [1, 8, 8, 3] to [1, 5]."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(5)
    image = x = layers.Input((8, 8, 3), batch_size=1)
    x = layers.Conv2D(4, (3, 2), use_bias=False, activation="relu")(x)
    x = layers.DepthwiseConv2D((2, 3), use_bias=False, activation="relu")(x)
    x = layers.Conv2DTranspose(6, 3, strides=2, use_bias=False, activation="relu")(x)
    network = keras.Model(image, layers.Dense(5, use_bias=False)(layers.Flatten()(x)))
    return bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())


def _reference(image: Array, kernels: dict[str, Array]) -> Array:
    """Compute the network of `convolutions`; `image` is [H, W, C], the kernels are in the graph's layout."""
    kernel = kernels["CONV_2D"]
    x = np.maximum(np.einsum("hwcij,oijc->hwo", sliding_window_view(image, kernel.shape[1:3], (0, 1)), kernel), 0)
    (kernel,) = kernels["DEPTHWISE_CONV_2D"]
    x = np.maximum(np.einsum("hwcij,ijc->hwc", sliding_window_view(x, kernel.shape[:2], (0, 1)), kernel), 0)
    kernel = kernels["TRANSPOSE_CONV"]
    height, width, _ = x.shape
    spread = np.zeros((2 * height + 1, 2 * width + 1, len(kernel)))
    for row in range(height):
        for column in range(width):
            spread[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += np.einsum(
                "ohwi,i->hwo", kernel, x[row, column]
            )
    return np.maximum(spread, 0).reshape(-1) @ kernels["FULLY_CONNECTED"].T


@pytest.mark.training
def test_every_kernel_is_found_and_the_changed_network_computes_what_its_numbers_say(convolutions: bytes) -> None:
    found = weights(convolutions)
    assert {weight.operator: weight.values.shape for weight in found.values()} == {
        "CONV_2D": (4, 3, 2, 3),
        "DEPTHWISE_CONV_2D": (1, 2, 3, 4),
        "TRANSPOSE_CONV": (6, 3, 3, 4),
        "FULLY_CONNECTED": (5, 11 * 11 * 6),
    }
    for weight in found.values():
        assert weight.name in found
        assert weight.role == "kernel"
    channels = {weight.operator: weight.values.shape[weight.output_channel_axis] for weight in found.values()}
    assert channels == {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 6, "FULLY_CONNECTED": 5}

    random = np.random.default_rng(7)
    new = {name: random.normal(size=weight.values.shape).astype(np.float32) for name, weight in found.items()}
    changed = replace_weights(convolutions, new)
    image = random.normal(size=(1, 8, 8, 3)).astype(np.float32)
    wanted = _reference(image[0], {found[name].operator: values for name, values in new.items()})
    np.testing.assert_allclose(_run(changed, image)[0], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert not np.allclose(_run(convolutions, image)[0], wanted)


@pytest.mark.training
def test_writing_back_what_was_read_changes_no_byte(convolutions: bytes) -> None:
    read = {name: weight.values for name, weight in weights(convolutions).items()}
    assert replace_weights(convolutions, read) == convolutions


@settings(max_examples=40)
@given(new=arrays(np.float32, (OUTPUT_SIZE, INPUT_SIZE), elements=st.floats(-1e6, 1e6, width=32)))
def test_what_is_written_is_read_back_and_all_other_bytes_stay(new: Array) -> None:
    changed = replace_weights(DENSE, {"weights": new})
    (weight,) = weights(changed).values()
    np.testing.assert_array_equal(weight.values, new)
    old = weights(DENSE)["weights"].values.tobytes()
    assert changed == DENSE.replace(old, new.tobytes())


def test_a_layout_that_is_not_contiguous_is_written_in_the_graphs_order() -> None:
    new = np.arange(OUTPUT_SIZE * INPUT_SIZE, dtype=np.float64).reshape(INPUT_SIZE, OUTPUT_SIZE).T
    changed = replace_weights(DENSE, {"weights": new})
    np.testing.assert_array_equal(_run(changed, np.eye(1, INPUT_SIZE, dtype=np.float32))[0], new[:, 0])


def _two_layers(*, shared: bool) -> bytes:
    """Return the dense graph with a second dense layer beside the first, whose kernel has the same name."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(DENSE))
    (graph,) = model.subgraphs
    kernel, output = schema.TensorT(), schema.TensorT()
    vars(kernel).update(vars(graph.tensors[1]))
    vars(output).update(vars(graph.tensors[2]))
    if not shared:
        buffer = schema.BufferT()
        buffer.data = model.buffers[1].data + 1
        kernel.buffer = len(model.buffers)
        model.buffers.append(buffer)
    graph.tensors += [kernel, output]
    second = schema.OperatorT()
    vars(second).update(vars(graph.operators[0]))
    second.inputs, second.outputs = [0, 3], [4]
    graph.operators.append(second)
    graph.outputs = [2, 4]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def test_a_shared_kernel_appears_once_and_changes_for_all_its_layers() -> None:
    graph = _two_layers(shared=True)
    assert list(weights(graph)) == ["weights"]
    changed = replace_weights(graph, {"weights": np.zeros((OUTPUT_SIZE, INPUT_SIZE))})
    interpreter = Interpreter(model_content=changed)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.ones((1, INPUT_SIZE), np.float32))
    interpreter.invoke()
    assert not interpreter.get_tensor(2).any()
    assert not interpreter.get_tensor(4).any()


def test_kernels_of_one_name_are_told_apart() -> None:
    assert list(weights(_two_layers(shared=False))) == ["weights", "weights #2"]


def test_a_kernel_that_is_not_finite_is_refused() -> None:
    values = weights(DENSE)["weights"].values.copy()
    values[1, 2] = np.nan
    with pytest.raises(CompressionError, match=r"1 of the 64 weights of 'weights' are NaN") as caught:
        weights(replace_weights(DENSE, {"weights": values}))
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


@pytest.mark.parametrize(
    ("values", "says"),
    [({"weights": np.zeros((16, 4))}, "has the shape"), ({"bias": np.zeros(4)}, "no float32 kernel named")],
)
def test_wrong_names_and_shapes_are_refused(values: dict[str, Array], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace_weights(DENSE, values)


def test_a_graph_without_kernels_has_no_weights() -> None:
    assert weights(dense_graph(custom_operator="MyOp")) == {}
