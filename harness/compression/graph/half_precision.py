"""Store float constants in half precision, each behind a DEQUANTIZE, which delegates fold away.

Biases too, because a float16 kernel with a float32 bias does not load with XNNPACK of 2023 to 2025.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.tflite.flatbuffer import operator_code, tensor_indices
from harness.tflite.library_types import FlatbufferObject
from harness.tflite.weights import KERNEL_INPUT, OUTPUT_CHANNEL_AXES

DEQUANTIZE_VERSION = 3
"""The first that reads float16."""

_LARGEST_ERROR = 2.0**-10
"""A constant stays float32 if float16 would change a value by more than this share of the largest: beyond 65504, and
where all are next to nothing, such as the epsilon of a normalization."""


def store_float16(graph: bytes, is_chosen: Callable[[str], bool]) -> bytes:
    """Return the graph with the float32 constants of the operators whose scope is chosen as float16.

    A kernel and its bias are stored alike, and a constant that other operators read too stays as it is.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    halves: dict[int, int] = {}
    for subgraph in model.subgraphs:
        _separate(model, subgraph, is_chosen)
        places = _chosen_constants(model, subgraph, is_chosen)
        subgraph.operators[:0] = [_unpack(model, subgraph, place, halves) for place in places]
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    for buffer in halves.keys() - used:
        model.buffers[buffer].data = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if halves else graph


def _separate(model: FlatbufferObject, graph: FlatbufferObject, is_chosen: Callable[[str], bool]) -> None:
    """Give a constant one tensor each for layers and for other operators, and for those chosen and those not.

    XNNPACK of LiteRT 1.1 to 1.3 refuses some graphs in which a layer and another operator read the same DEQUANTIZE.
    """
    first: dict[int, tuple[bool, bool]] = {}
    copies: dict[tuple[int, bool, bool], int] = {}
    for operator in graph.operators:
        group = bool(_parameters(model, operator)), is_chosen(_scope(graph, operator))
        for place, index in enumerate(tensor_indices(operator.inputs)):
            if index < 0 or not _is_float_constant(model, graph.tensors[index]):
                continue
            if first.setdefault(index, group) != group:
                if (index, *group) not in copies:
                    graph.tensors.append(copy.copy(graph.tensors[index]))
                    copies[index, *group] = len(graph.tensors) - 1
                operator.inputs[place] = copies[index, *group]


def _scope(graph: FlatbufferObject, operator: FlatbufferObject) -> str:
    return "".join(
        f"{(graph.tensors[index].name or b'').decode('utf-8', 'replace')};"
        for index in tensor_indices(operator.outputs)
    )


def _parameters(model: FlatbufferObject, operator: FlatbufferObject) -> list[int]:
    """Return the places of an operator's kernel and bias; none if it has no kernel."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {getattr(schema.BuiltinOperator, name) for name in OUTPUT_CHANNEL_AXES}
    if model.operatorCodes[operator.opcodeIndex].builtinCode not in kinds:
        return []
    return [index for index in tensor_indices(operator.inputs)[KERNEL_INPUT:] if index >= 0]


def _chosen_constants(model: FlatbufferObject, graph: FlatbufferObject, is_chosen: Callable[[str], bool]) -> list[int]:
    read: dict[int, None] = {}
    kept = {*tensor_indices(graph.outputs)}
    layers: list[set[int]] = []
    for operator in graph.operators:
        inputs = [index for index in tensor_indices(operator.inputs) if index >= 0]
        constants = {index: None for index in inputs if _is_float_constant(model, graph.tensors[index])}
        layers.append(constants.keys() & set(_parameters(model, operator)))
        if not is_chosen(_scope(graph, operator)):
            kept.update(constants)
        read.update(constants)
    kept.update(index for index in read if not _fits(model, graph.tensors[index]))
    for parameters in layers:
        if parameters & kept:
            kept |= parameters
    return [index for index in read if index not in kept]


def _is_float_constant(model: FlatbufferObject, tensor: FlatbufferObject) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[tensor.buffer].data
    return tensor.type == schema.TensorType.FLOAT32 and tensor.sparsity is None and data is not None and len(data) > 0


def _fits(model: FlatbufferObject, tensor: FlatbufferObject) -> bool:
    values = _values(model, tensor.buffer)
    with np.errstate(over="ignore"):
        error = np.abs(values.astype(np.float16) - values).max()
    return bool(error <= _LARGEST_ERROR * np.abs(values).max())


def _values(model: FlatbufferObject, buffer: int) -> NDArray[np.float32]:
    return np.asarray(model.buffers[buffer].data, np.uint8).view("<f4")


def _unpack(model: FlatbufferObject, graph: FlatbufferObject, place: int, halves: dict[int, int]) -> FlatbufferObject:
    """Move a constant's numbers into a float16 tensor; return the operator that fills the float32 one from it."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[place]
    if tensor.buffer not in halves:
        buffer = schema.BufferT()
        buffer.data = _values(model, tensor.buffer).astype("<f2").view(np.uint8)
        model.buffers.append(buffer)
        halves[tensor.buffer] = len(model.buffers) - 1
    half = copy.copy(tensor)
    half.type, half.buffer, half.name = schema.TensorType.FLOAT16, halves[tensor.buffer], tensor.name + b"_half"
    tensor.buffer = 0  # the empty one, by convention of the schema
    graph.tensors.append(half)
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, schema.BuiltinOperator.DEQUANTIZE, DEQUANTIZE_VERSION)
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [place]
    return operator
