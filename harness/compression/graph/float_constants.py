"""Undo what only packs float constants: half precision behind a DEQUANTIZE, and sparse storage behind a DENSIFY.

A file that holds its weights so is still the float model, computed in float32; the quantizer reads plain constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.tflite.flatbuffer import tensor_indices
from harness.tflite.library_types import FlatbufferObject


def with_float_constants(graph: bytes) -> bytes:
    """Return the graph with its packed float constants as plain float32 ones, and all else as it was.

    Integer weights behind a DEQUANTIZE stay: they are quantized, not packed. The graph must have current codes.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    changed = [place for place, subgraph in enumerate(model.subgraphs) if _unpack(model, subgraph)]
    if not changed:
        return graph
    for place in changed:
        _drop_unused_tensors(model, place)
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    used.update(entry.buffer for entry in model.metadata or ())
    for place, buffer in enumerate(model.buffers):
        if place not in used:
            buffer.data = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _unpack(model: FlatbufferObject, subgraph: FlatbufferObject) -> bool:
    """Replace a graph's packed constants. Return False if it has none."""
    from ai_edge_litert import schema_py_generated as schema

    unpackers = _unpackers(model, subgraph)
    others = [operator for operator in subgraph.operators if operator not in unpackers]
    read = {index for operator in others for index in tensor_indices(operator.inputs)}
    read.update(tensor_indices(subgraph.outputs))
    written = [int(operator.outputs[0]) for operator in unpackers]
    wanted = [index for index in written if index in read]
    if any(subgraph.tensors[index].type != schema.TensorType.FLOAT32 for index in wanted):
        return False  # an operator computes in half precision
    for index, values in zip(wanted, _compute(model, subgraph, unpackers, wanted), strict=True):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        model.buffers.append(buffer)
        subgraph.tensors[index].buffer = len(model.buffers) - 1
    subgraph.operators = others
    return bool(unpackers)


def _drop_unused_tensors(model: FlatbufferObject, place: int) -> None:
    """Remove the tensors that nothing refers to any more, on which tools that read every tensor stumble."""
    subgraph = model.subgraphs[place]
    signatures = [one for one in model.signatureDefs or () if one.subgraphIndex == place]
    entries = [entry for one in signatures for entry in (*one.inputs, *one.outputs)]
    vectors = [(subgraph, "inputs"), (subgraph, "outputs")]
    vectors += [(operator, name) for operator in subgraph.operators for name in ("inputs", "outputs", "intermediates")]
    used = {index for owner, name in vectors for index in tensor_indices(getattr(owner, name))}
    used.update(entry.tensorIndex for entry in entries)
    kept = [index for index in range(len(subgraph.tensors)) if index in used]
    places = {index: new for new, index in enumerate(kept)} | {-1: -1}  # -1: an input that is left out
    subgraph.tensors = [subgraph.tensors[index] for index in kept]
    for owner, name in vectors:
        if getattr(owner, name) is not None:
            setattr(owner, name, [places[index] for index in tensor_indices(getattr(owner, name))])
    for entry in entries:
        entry.tensorIndex = places[entry.tensorIndex]


def _unpackers(model: FlatbufferObject, subgraph: FlatbufferObject) -> list[FlatbufferObject]:
    """Return the operators that unpack float constants, also one after the other."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {schema.BuiltinOperator.DEQUANTIZE, schema.BuiltinOperator.DENSIFY}
    floats = {schema.TensorType.FLOAT16, schema.TensorType.FLOAT32}
    constants = {
        index
        for index, tensor in enumerate(subgraph.tensors)
        if tensor.type in floats and model.buffers[tensor.buffer].data is not None
    }
    found = []
    for operator in subgraph.operators:  # in the order of execution
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds and int(operator.inputs[0]) in constants:
            found.append(operator)
            constants.add(int(operator.outputs[0]))
    return found


def _compute(
    model: FlatbufferObject, subgraph: FlatbufferObject, operators: Sequence[FlatbufferObject], wanted: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Return what the operators write into the tensors wanted, as the runtime itself computes it."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from ai_edge_litert.tools import flatbuffer_utils

    if not wanted:
        return []
    part = schema.SubGraphT()
    part.tensors, part.operators = subgraph.tensors, list(operators)
    part.inputs, part.outputs = [], list(wanted)
    whole = schema.ModelT()
    whole.version, whole.subgraphs = model.version, [part]
    whole.buffers, whole.operatorCodes = model.buffers, model.operatorCodes
    interpreter = Interpreter(
        model_content=bytes(flatbuffer_utils.convert_object_to_bytearray(whole)),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(index)) for index in wanted]
