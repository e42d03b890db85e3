"""Store weights that are mostly zeros as sparse tensors, which a DENSIFY operator unpacks when the model is loaded.

Runtimes read them since TensorFlow Lite 2.3. The file shrinks; the running model does not, and is as fast as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.constants import KERNEL_INPUT, OUTPUT_CHANNEL_AXES
from harness.compression.sparse_format import Level, SparseValues, smallest

MINIMUM_SPARSITY = 0.5
"""The share of zeros from which it is tried: below it, little is won for the time that unpacking takes."""

DENSIFY_VERSION = 1
OPERATOR_BYTES = 200
"""About what the operator, the tensor that it fills and their names add to the file."""


@dataclass(frozen=True)
class TensorStorage:
    """What became of one weight."""

    name: str
    type: str
    sparsity: float
    """The share of its values that are zero."""

    dense_bytes: int
    sparse_bytes: int | None = None
    """Bytes with all that the file needs to unpack it, or None when it was not tried."""

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
    def stored(self) -> tuple[TensorStorage, ...]:
        """The weights that are stored sparse now."""
        return tuple(tensor for tensor in self.tensors if not tensor.kept_dense)


def store_sparse(graph: bytes, *, minimum_sparsity: float = MINIMUM_SPARSITY) -> tuple[bytes, SparseReport]:
    """Return the graph with those kernels stored sparse that have the zeros for it and get smaller by it.

    Looks at the kernels, as float32, float16 or int8, of convolutions and dense layers, in the layout that takes the
    fewest bytes. The outputs do not change. A graph in which no kernel gets smaller is returned as it is.
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

    def __init__(self, model: Any, minimum_sparsity: float) -> None:  # noqa: ANN401 - generated code has no types
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._model = model
        self._graph = model.subgraphs[0]
        self._minimum_sparsity = minimum_sparsity
        self._numpy_types = {
            schema.TensorType.FLOAT32: np.dtype("<f4"),
            schema.TensorType.FLOAT16: np.dtype("<f2"),
            schema.TensorType.INT8: np.dtype("i1"),
        }

    def kernels(self) -> list[int]:
        """Return the tensors that are constant kernels, or what a DEQUANTIZE makes kernels of, in order of use."""
        schema = self._schema
        with_kernel = {getattr(schema.BuiltinOperator, name) for name in OUTPUT_CHANNEL_AXES}
        dequantized: dict[int, int] = {}
        found: dict[int, None] = {}
        for node in self._graph.operators:
            code = self._model.operatorCodes[node.opcodeIndex].builtinCode
            if code == schema.BuiltinOperator.DEQUANTIZE:
                dequantized[int(node.outputs[0])] = int(node.inputs[0])
            elif code in with_kernel:
                index = int(node.inputs[KERNEL_INPUT])
                index = dequantized.get(index, index)
                if self._data(index) is not None:
                    found[index] = None
        return list(found)

    def store(self, index: int) -> TensorStorage:
        """Store a tensor sparse, or say why not."""
        tensor = self._graph.tensors[index]
        facts: dict[str, Any] = {
            "name": (tensor.name or b"").decode("utf-8", "replace"),
            "type": _type_name(tensor.type),
            "dense_bytes": len(self._data(index)),
        }
        if reason := self._obstacle(index):
            return TensorStorage(**facts, sparsity=0.0, kept_dense=reason)
        values = self._data(index).view(self._numpy_types[tensor.type]).reshape(tensor.shape)
        facts["sparsity"] = 1 - int(np.count_nonzero(values)) / values.size
        if facts["sparsity"] < self._minimum_sparsity:
            return TensorStorage(**facts, kept_dense=f"fewer than {self._minimum_sparsity:.0%} of it are zeros")
        sparse = smallest(values)
        size = len(sparse.values.tobytes()) + _extra_bytes(sparse)
        facts |= {"sparse_bytes": size, "layout": str(sparse.layout)}
        if size >= facts["dense_bytes"]:
            return TensorStorage(**facts, kept_dense="it would not get smaller")
        self._rewrite(index, sparse)
        return TensorStorage(**facts)

    def _obstacle(self, index: int) -> str:
        """Say why a tensor cannot be stored sparse, whatever its values; empty when it can."""
        tensor = self._graph.tensors[index]
        if tensor.sparsity is not None:
            return "it is sparse already"
        if tensor.type not in self._numpy_types:
            return "DENSIFY unpacks float32, float16 and int8 alone"
        zero_points = None if tensor.quantization is None else tensor.quantization.zeroPoint
        if zero_points is not None and np.any(zero_points):
            return "DENSIFY fills the gaps with the number 0, which does not stand for zero here"
        users = [other for graph in self._model.subgraphs for other in graph.tensors if other.buffer == tensor.buffer]
        if len(users) > 1:
            return "several tensors share it"
        if index in self._graph.outputs:
            return "it is an output of the model"
        return ""

    def _rewrite(self, index: int, sparse: SparseValues) -> None:
        tensor = self._graph.tensors[index]
        dense, densify = self._unpacked(tensor, index)
        tensor.sparsity = _parameters(sparse)
        self._model.buffers[tensor.buffer].data = np.frombuffer(sparse.values.tobytes(), np.uint8)
        self._graph.tensors.append(dense)
        users = [node for node in self._graph.operators if index in node.inputs]
        for node in users:
            node.inputs = [len(self._graph.tensors) - 1 if used == index else int(used) for used in node.inputs]
        self._graph.operators.insert(self._graph.operators.index(users[0]), densify)

    def _unpacked(self, tensor: Any, index: int) -> tuple[Any, Any]:  # noqa: ANN401 - as above
        """Return the dense tensor, which goes to the end of the graph's, and the operator that fills it."""
        if tensor.quantization is not None:
            tensor.quantization = _WrittenOnce(tensor.quantization)
        dense = self._schema.TensorT()
        vars(dense).update(vars(tensor))
        dense.name = f"dense {index}"  # short, since TensorFlow's own run to hundreds of letters
        dense.buffer = 0  # the empty one, by convention of the schema
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._densify_code()
        operator.inputs, operator.outputs = [index], [len(self._graph.tensors)]
        return dense, operator

    def _densify_code(self) -> int:
        number = self._schema.BuiltinOperator.DENSIFY
        codes = self._model.operatorCodes
        for index, code in enumerate(codes):
            if code.builtinCode == number:
                return index
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = DENSIFY_VERSION
        codes.append(code)
        return len(codes) - 1

    def _data(self, index: int) -> NDArray[np.uint8] | None:
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)


class _WrittenOnce:
    """A part of the file that two others point to, where the generated code would write it for each of them."""

    def __init__(self, part: Any) -> None:  # noqa: ANN401 - generated code has no types
        self._part = part
        self._builder: Any = None
        self._offset: Any = None

    def Pack(self, builder: Any) -> Any:  # noqa: ANN401, N802 - what the generated code calls
        if builder is not self._builder:
            self._builder, self._offset = builder, self._part.Pack(builder)
        return self._offset


def _extra_bytes(sparse: SparseValues) -> int:
    """Return how many bytes the file needs beside the values: places, operator, second tensor."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    _parameters(sparse).Pack(builder)
    return int(builder.Offset()) + OPERATOR_BYTES


def _parameters(sparse: SparseValues) -> Any:  # noqa: ANN401 - generated code has no types
    from ai_edge_litert import schema_py_generated as schema

    layout = sparse.layout
    parameters = schema.SparsityParametersT()
    rank = len(layout.order)
    parameters.traversalOrder = [*layout.order, *range(rank, rank + len(layout.block_axes))]
    parameters.blockMap = list(layout.block_axes)
    parameters.dimMetadata = [_dimension(level) for level in sparse.levels]
    return parameters


def _dimension(level: Level) -> Any:  # noqa: ANN401 - generated code has no types
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

    return next(name.lower() for name, value in vars(schema.TensorType).items() if value == number)
