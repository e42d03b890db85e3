"""Read and replace the float weights of a graph, without its training framework.

The new numbers are written over the old ones: nothing else in the file changes, not even the order of its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.flatbuffer import operator_scope
from harness.tflite.library_types import FlatbufferObject

OUTPUT_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""The operators with a kernel, and which axis of it counts their output channels.

Their kernels are laid out [O, H, W, I], [1, H, W, O], [O, I] and [O, H, W, I].
"""

KERNEL_INPUT = 1
"""At which of its inputs each of these operators takes its kernel."""


@dataclass(frozen=True)
class Weight:
    """One constant kernel of a graph, as the first operator that uses it does."""

    name: str
    operator: str
    values: NDArray[np.float32]
    """In the graph's own layout; read-only."""

    output_channel_axis: int
    role: Literal["kernel"] = "kernel"


def weights(graph: bytes) -> dict[str, Weight]:
    """Return the float32 kernels of a `.tflite` file's content by name, in the order of their first use.

    A kernel that several operators share appears once. Kernels kept as float16 (behind a DEQUANTIZE) or as integers are
    left out: rewrite the float graph, then quantize it. Raises `CompressionError` when a kernel is not finite.
    """
    found = {}
    for weight, _ in _kernels(graph):
        if not np.isfinite(weight.values).all():
            count = int(np.count_nonzero(~np.isfinite(weight.values)))
            raise CompressionError(
                Failure(
                    FailureClass.INVALID_MODEL,
                    f"{count} of the {weight.values.size} weights of {weight.name!r} are NaN or infinite; nothing can "
                    "be made of them. Train the model again, with a smaller learning rate.",
                )
            )
        found[weight.name] = weight
    return found


def replace_weights(graph: bytes, values: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the graph with other numbers in the kernels named; see `weights` for their names and shapes.

    Raises `ValueError` for a name that the graph does not have, or for another shape.
    """
    content = bytearray(graph)
    missing = set(values)
    for weight, stored in _kernels(content):
        if weight.name not in values:
            continue
        missing.remove(weight.name)
        new = np.asarray(values[weight.name], "<f4")
        if new.shape != weight.values.shape:
            raise ValueError(f"{weight.name!r} has the shape {weight.values.shape}, not {new.shape}")
        stored[:] = np.frombuffer(new.tobytes(), np.uint8)
    if missing:
        raise ValueError(f"the graph has no float32 kernel named {sorted(missing)}")
    return bytes(content)


def kernel_sizes(graph: bytes) -> dict[str, int]:
    """Return how many weights each layer with a float32 kernel has, by its scope: the names of what it writes."""
    from ai_edge_litert import schema_py_generated as schema

    sizes = {}
    for model, subgraph, operator, node in operators(graph):
        if operator in OUTPUT_CHANNEL_AXES:
            tensor = subgraph.Tensors(node.Inputs(KERNEL_INPUT))
            if tensor.Type() == schema.TensorType.FLOAT32 and model.Buffers(tensor.Buffer()).DataLength():
                sizes[operator_scope(subgraph, node)] = int(np.prod(tensor.ShapeAsNumpy()))
    return sizes


def _kernels(content: bytes | bytearray) -> Iterator[tuple[Weight, NDArray[np.uint8]]]:
    """Yield each kernel with its bytes, which are a view into `content`."""
    from ai_edge_litert import schema_py_generated as schema

    addresses: set[int] = set()
    names: set[str] = set()
    for model, graph, operator, node in operators(content):
        if operator not in OUTPUT_CHANNEL_AXES:
            continue
        index = int(node.Inputs(KERNEL_INPUT))
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() != schema.TensorType.FLOAT32 or not buffer.DataLength():
            continue
        stored = buffer.DataAsNumpy()
        if stored.ctypes.data in addresses:
            continue
        addresses.add(stored.ctypes.data)
        name = unique_name((tensor.Name() or b"").decode("utf-8", "replace") or f"tensor {index}", names)
        values = stored.view("<f4").reshape(tensor.ShapeAsNumpy())
        values.flags.writeable = False
        yield Weight(name, operator, values, OUTPUT_CHANNEL_AXES[operator]), stored


def operators(content: bytes | bytearray) -> Iterator[tuple[Any, Any, str, Any]]:
    """Yield the model, the graph, the name and the node of each operator; what is read off a bytearray can be written.

    These are the schema's generated accessors, which copy nothing.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    known = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for node in (graph.Operators(index) for index in range(graph.OperatorsLength())):
            code = model.OperatorCodes(node.OpcodeIndex())
            # Codes above 127 do not fit the old field, which then holds a placeholder (see the schema's own comment).
            yield model, graph, known.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), ""), node


def unique_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number after it if it is taken already, and take it."""
    number, result = 1, name
    while result in taken:
        number += 1
        result = f"{name} #{number}"
    taken.add(result)
    return result


def float_constant(model: FlatbufferObject, tensor: FlatbufferObject | None) -> NDArray[np.float32] | None:
    """Return the numbers of a float32 constant of the object API, in its shape; None for anything else."""
    from ai_edge_litert import schema_py_generated as schema

    data = None if tensor is None else model.buffers[tensor.buffer].data
    if tensor is None or data is None or not len(data) or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.asarray(data, np.uint8).view("<f4").reshape(() if tensor.shape is None else tensor.shape)
