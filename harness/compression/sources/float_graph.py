"""Functions of TensorFlow that compute in half precision or in float64, in float32 instead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from harness.tflite.library_types import TensorFlowFunction, TensorFlowMessage

_OTHER_FLOATS = {tf.dtypes.as_dtype(name).as_datatype_enum for name in ("float16", "bfloat16", "float64")}
_GRADIENT = "_gradient_op_type"
_FLOAT32 = tf.float32.as_datatype_enum


def computes_in_other_floats(function: TensorFlowFunction) -> bool:
    """Return True if any operation of a concrete function, or of the functions in it, is not in float32."""
    graph = function.graph.as_graph_def()
    return any(attribute.type in _OTHER_FLOATS for node in _nodes(graph) for attribute in node.attr.values())


def in_float32(function: TensorFlowFunction) -> TensorFlowFunction:
    """Return a concrete function with the same names, whose constants, inputs and operations are float32."""
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    graph = frozen.graph.as_graph_def()
    for node in _nodes(graph):
        node.attr.pop(_GRADIENT, None)  # it was recorded for the other number format
        for attribute in node.attr.values():
            _change(attribute)
    for one in graph.library.function:
        for argument in (*one.signature.input_arg, *one.signature.output_arg):
            argument.type = _float32_type(argument.type)
    names = sorted(function.structured_input_signature[1])
    inputs = {name: tensor.name for name, tensor in zip(names, frozen.inputs, strict=True)}
    shapes = {
        name: tf.TensorSpec(tensor.shape, tf.dtypes.as_dtype(_float32_type(tensor.dtype.as_datatype_enum)), name=name)
        for name, tensor in zip(names, frozen.inputs, strict=True)
    }
    wanted = [tensor.name for tensor in frozen.outputs]

    def call(**values: TensorFlowFunction) -> TensorFlowFunction:
        fed = {inputs[name]: value for name, value in values.items()}
        found = tf.graph_util.import_graph_def(graph, input_map=fed, return_elements=wanted, name="")
        return tf.nest.pack_sequence_as(function.structured_outputs, found)

    return tf.function(call).get_concrete_function(**shapes)


def _nodes(graph: TensorFlowMessage) -> Iterator[TensorFlowMessage]:
    """Yield the operations of a graph and of the functions that it calls."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _change(attribute: TensorFlowMessage) -> None:
    kind = attribute.WhichOneof("value")
    if kind == "type":
        attribute.type = _float32_type(attribute.type)
    elif kind == "list":
        attribute.list.type[:] = [_float32_type(one) for one in attribute.list.type]
    elif kind == "tensor" and attribute.tensor.dtype in _OTHER_FLOATS:
        values = tf.make_ndarray(attribute.tensor).astype(np.float32)
        attribute.tensor.CopyFrom(tf.make_tensor_proto(values, tf.float32, values.shape))


def _float32_type(number: int) -> int:
    return _FLOAT32 if number in _OTHER_FLOATS else number
