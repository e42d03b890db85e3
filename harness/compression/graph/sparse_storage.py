"""Store weights that are mostly zeros as sparse tensors, which a DENSIFY operator unpacks when the model is loaded.

What it buys is a smaller file on the phone. A zip of it is hardly smaller, since zeros compress well; inference is as
fast as before; loading takes longer, and memory grows by the sparse copy.

Only what every runtime tried computes exactly as before is stored so. Seen with sparse kernels, in TensorFlow Lite
2.14.1 and LiteRT 2.3 (both with XNNPACK and without):

| kernel | in | what happens |
|---|---|---|
| float32 | CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED | the same outputs everywhere |
| int8, integer activations | CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV | the same outputs everywhere |
| int8, integer activations | FULLY_CONNECTED | LiteRT's XNNPACK refuses the model |
| int8, float activations | any | LiteRT's XNNPACK refuses the model |
| float16 or int8 | any, behind a DEQUANTIZE | both XNNPACK compute with memory that nothing was written to, \
where the operator is one that they leave to the runtime |

The GPU delegate of 2.14.1 refuses the whole model where a sparse kernel is int8, or belongs to a dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.graph.sparse_format import Level, SparseValues, smallest
from harness.tflite.flatbuffer import operator_code
from harness.tflite.library_types import FlatbufferObject
from harness.tflite.weights import KERNEL_INPUT, OUTPUT_CHANNEL_AXES

GPU_RANK = 4
"""The GPU delegate densifies the kernels of convolutions alone."""

MINIMUM_SPARSITY = 0.5
"""The share of zeros from which it is tried: below it, little is won for the time that unpacking takes."""

DENSIFY_VERSION = 1
OVERHEAD_BYTES = 300
"""About what the file needs for a sparse tensor next to its values and their places: tables, operator, dense tensor."""


@dataclass(frozen=True)
class TensorStorage:
    """What became of one weight."""

    name: str
    type: str
    rank: int
    dense_bytes: int
    sparsity: float | None = None
    """The share of its values that are zero; None when they were not looked at."""

    sparse_bytes: int | None = None
    """With all that the file needs to unpack it; None when it was not tried."""

    layout: str = ""
    kept_dense: str = ""
    """Why it was left as it is; empty when it is stored sparse."""


@dataclass(frozen=True)
class SparseReport:
    """What `store_sparse` did."""

    tensors: tuple[TensorStorage, ...]
    bytes_before: int
    """Size of the file."""

    bytes_after: int

    @property
    def advice(self) -> str:
        """What the file can no longer do; empty when nothing."""
        if any(tensor.type != "float32" or tensor.rank != GPU_RANK for tensor in self.stored):
            return (
                "The GPU delegate refuses this file (DENSIFY of int8 or of a dense layer's weights): run it on the CPU."
            )
        return ""

    @property
    def stored(self) -> tuple[TensorStorage, ...]:
        """The weights that are stored sparse now."""
        return tuple(tensor for tensor in self.tensors if not tensor.kept_dense)


def store_sparse(graph: bytes, *, minimum_sparsity: float = MINIMUM_SPARSITY) -> tuple[bytes, SparseReport]:
    """Return the graph with those kernels stored sparse that have the zeros for it and get smaller by it.

    Each kernel takes the layout with the fewest bytes. The outputs do not change. A graph in which no kernel gets
    smaller is returned as it is.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    rewriter = _Rewriter(model, minimum_sparsity)
    tensors = tuple(rewriter.store(index) for index in rewriter.kernels())
    result = graph
    if any(not tensor.kept_dense for tensor in tensors):
        result = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return result, SparseReport(tensors, len(graph), len(result))


class _Rewriter:
    """Changes a model's main graph in place."""

    def __init__(self, model: FlatbufferObject, minimum_sparsity: float) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._model = model
        self._graph = model.subgraphs[0]
        self._minimum_sparsity = minimum_sparsity
        self._names: dict[int, str] = {number: name for name, number in vars(schema.BuiltinOperator).items()}
        self._numpy_types: dict[int, np.dtype[Any]] = {
            schema.TensorType.FLOAT32: np.dtype("<f4"),
            schema.TensorType.INT8: np.dtype("i1"),
        }

    def kernels(self) -> list[int]:
        """Return the tensors that are constant kernels, or what a DEQUANTIZE makes kernels of, in order of use."""
        dequantized: dict[int, int] = {}
        found: dict[int, None] = {}
        for node in self._graph.operators:
            operator = self._operator(node)
            if operator == "DEQUANTIZE":
                dequantized[int(node.outputs[0])] = int(node.inputs[0])
            elif operator in OUTPUT_CHANNEL_AXES:
                index = int(node.inputs[KERNEL_INPUT])
                index = dequantized.get(index, index)
                if self._data(index):
                    found[index] = None
        return list(found)

    def store(self, index: int) -> TensorStorage:
        """Store a tensor sparse, or say why not."""
        tensor, data = self._graph.tensors[index], self._data(index)
        facts: dict[str, Any] = {
            "name": (tensor.name or b"").decode("utf-8", "replace"),
            "type": _type_name(tensor.type),
            "rank": len(tensor.shape),
            "dense_bytes": len(data),
        }
        if reason := next(self._obstacles(index), None):
            return TensorStorage(**facts, kept_dense=reason)
        values = np.frombuffer(data, self._numpy_types[tensor.type]).reshape(tensor.shape)
        facts["sparsity"] = 1 - int(np.count_nonzero(values)) / values.size
        if facts["sparsity"] < self._minimum_sparsity:
            return TensorStorage(**facts, kept_dense=f"fewer than {self._minimum_sparsity:.0%} of it are zeros")
        sparse = smallest(values)
        size = sparse.bytes + OVERHEAD_BYTES
        facts |= {"sparse_bytes": size, "layout": str(sparse.layout)}
        if size >= facts["dense_bytes"]:
            return TensorStorage(**facts, kept_dense="it would not get smaller")
        self._rewrite(index, sparse)
        return TensorStorage(**facts)

    def _obstacles(self, index: int) -> Iterator[str]:
        """Yield why a tensor cannot be stored sparse, whatever its values."""
        tensor = self._graph.tensors[index]
        if tensor.sparsity is not None:
            yield "it is sparse already"
        for node in self._users(index):
            yield from self._refusals(node, tensor)
        if tensor.type not in self._numpy_types:
            yield "it is neither float32 nor int8"
        zero_points = None if tensor.quantization is None else tensor.quantization.zeroPoint
        if zero_points is not None and np.any(zero_points):
            yield "DENSIFY fills the gaps with the number 0, which does not stand for zero here"
        if sum(other.buffer == tensor.buffer for graph in self._model.subgraphs for other in graph.tensors) > 1:
            yield "several tensors share it"
        if index in self._graph.outputs:
            yield "it is an output of the model"

    def _refusals(self, node: FlatbufferObject, tensor: FlatbufferObject) -> Iterator[str]:
        """Yield why an operator must not get its kernel from DENSIFY; see the table above."""
        operator = self._operator(node)
        if operator == "DEQUANTIZE":
            yield "with XNNPACK, a DEQUANTIZE behind DENSIFY can read memory that nothing was written to"
        elif operator not in OUTPUT_CHANNEL_AXES:
            yield f"{operator} uses it too"
        elif tensor.type == self._schema.TensorType.INT8:
            if operator == "FULLY_CONNECTED":
                yield "newer versions of XNNPACK refuse dense layers with sparse int8 weights"
            if self._graph.tensors[node.outputs[0]].type == self._schema.TensorType.FLOAT32:
                yield "newer versions of XNNPACK refuse sparse int8 weights next to float activations"

    def _operator(self, node: FlatbufferObject) -> str:
        code = self._model.operatorCodes[node.opcodeIndex]
        # Old files have the number in the old field alone, as the schema's own comment says.
        return self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _users(self, index: int) -> list[Any]:
        return [node for node in self._graph.operators if index in node.inputs]

    def _rewrite(self, index: int, sparse: SparseValues) -> None:
        tensor = self._graph.tensors[index]
        dense, densify = self._unpacked(tensor, index)
        tensor.sparsity = _parameters(sparse)
        self._model.buffers[tensor.buffer].data = np.frombuffer(sparse.values.tobytes(), np.uint8)
        self._graph.tensors.append(dense)
        users = self._users(index)
        for node in users:
            node.inputs = [len(self._graph.tensors) - 1 if used == index else int(used) for used in node.inputs]
        self._graph.operators.insert(self._graph.operators.index(users[0]), densify)

    def _unpacked(self, tensor: FlatbufferObject, index: int) -> tuple[FlatbufferObject, FlatbufferObject]:
        """Return the dense tensor, which goes to the end of the graph's, and the operator that fills it."""
        if tensor.quantization is not None:
            tensor.quantization = _WrittenOnce(tensor.quantization)
        dense = self._schema.TensorT()
        vars(dense).update(vars(tensor))
        dense.name = f"dense {index}"  # short, since TensorFlow's own run to hundreds of letters
        dense.buffer = 0  # the empty one, by convention of the schema
        operator = self._schema.OperatorT()
        operator.opcodeIndex = operator_code(self._model, self._schema.BuiltinOperator.DENSIFY, DENSIFY_VERSION)
        operator.inputs, operator.outputs = [index], [len(self._graph.tensors)]
        return dense, operator

    def _data(self, index: int) -> bytes:
        """Return a tensor's constant values; empty when it has none."""
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return b"" if data is None else bytes(bytearray(data))


class _WrittenOnce:
    """A part of the file that two others point to, where the generated code would write it for each of them."""

    def __init__(self, part: FlatbufferObject) -> None:
        self._part = part
        self._builder: Any = None
        self._offset: Any = None

    def Pack(self, builder: FlatbufferObject) -> FlatbufferObject:  # noqa: N802 - what the generated code calls
        if builder is not self._builder:
            self._builder, self._offset = builder, self._part.Pack(builder)
        return self._offset


def _parameters(sparse: SparseValues) -> FlatbufferObject:
    from ai_edge_litert import schema_py_generated as schema

    layout = sparse.layout
    parameters = schema.SparsityParametersT()
    rank = len(layout.order)
    parameters.traversalOrder = [*layout.order, *range(rank, rank + len(layout.block_axes))]
    parameters.blockMap = list(layout.block_axes)
    parameters.dimMetadata = [_dimension(level) for level in sparse.levels]
    return parameters


def _dimension(level: Level) -> FlatbufferObject:
    from ai_edge_litert import schema_py_generated as schema

    dimension = schema.DimensionMetadataT()
    if level.segments is None or level.indices is None:
        dimension.format, dimension.denseSize = schema.DimensionType.DENSE, level.size
        return dimension
    dimension.format = schema.DimensionType.SPARSE_CSR
    dimension.arraySegmentsType, dimension.arraySegments = _vector(level.segments)
    dimension.arrayIndicesType, dimension.arrayIndices = _vector(level.indices)
    return dimension


def _vector(numbers: NDArray[Any]) -> tuple[int, Any]:
    from ai_edge_litert import schema_py_generated as schema

    kinds = {
        "uint8": (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
        "uint16": (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
        "int32": (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
    }
    number, kind = kinds[numbers.dtype.name]
    vector = kind()
    vector.values = numbers
    return number, vector


def _type_name(number: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    names: dict[int, str] = {value: name for name, value in vars(schema.TensorType).items()}
    return names[number].lower()
