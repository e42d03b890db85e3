"""Read what a `.tflite` file holds, without loading it into a runtime. Any bytes at all give facts or a clear error."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import FlatbufferObject
from harness.tflite.variant import TensorType

IDENTIFIER = b"TFL3"
MAX_BYTES = 2**31 - 1
"""A FlatBuffer addresses its content with signed 32-bit offsets."""

SERVING = b"serving_default"
"""The signature that counts where a graph has several."""

_SMALLEST_ITEM_BYTES = 4
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d+)")
_Named = tuple[str, int]
"""A signature's name of a tensor, and the tensor's index."""
_NUMPY_NAMES = {"BOOL": "bool", "STRING": "str"}


@dataclass(frozen=True)
class GraphFacts:
    """What can be read off a graph; the fields are those of `VariantCard`."""

    operators: dict[str, int]
    operator_versions: dict[str, int]
    custom_operators: tuple[str, ...]
    weight_types: dict[str, int]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


def is_quantized(weight_types: Mapping[str, int]) -> bool:
    """Return True if constants of these types include weights in fewer bits than float32."""
    return bool(weight_types.keys() & {"int2", "int4", "int8", "uint8", "float16"})


def read_graph(content: bytes, *, name: str) -> GraphFacts:
    """Read the facts of a `.tflite` file's content; `name` starts the error sentence.

    Raises `CompressionError` (invalid_model) for what is empty, cut short, corrupt, too large or something else.
    """
    if not content:
        raise _invalid(f"{name} is empty.")
    if len(content) > MAX_BYTES:
        raise _invalid(f"{name} has {len(content)} bytes; a .tflite file cannot be larger than 2 GiB.")
    if content[4:8] != IDENTIFIER:
        raise _invalid(f"{name} is not a .tflite file: it does not begin like one.")
    try:
        return _Reader(content).facts()
    # The generated accessors index raw bytes: this is what wrong offsets end in.
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, KeyError) as error:
        raise _invalid(f"{name} is corrupt or cut short.") from error


def operator_scopes(content: bytes) -> list[str]:
    """Return, for each operator of the main graph, the names of the tensors that it writes, each followed by `;`."""
    from ai_edge_litert import schema_py_generated as schema

    return _scopes(schema.Model.GetRootAs(content, 0).Subgraphs(0))


def inner_scopes(content: bytes) -> list[str]:
    """Return the scopes of the operators inside loops and branches: in graphs that no signature names."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    outer = {model.SignatureDefs(index).SubgraphIndex() for index in range(model.SignatureDefsLength())} | {0}
    inner = (model.Subgraphs(place) for place in range(model.SubgraphsLength()) if place not in outer)
    return [scope for graph in inner for scope in _scopes(graph)]


def _scopes(graph: FlatbufferObject) -> list[str]:
    return [operator_scope(graph, graph.Operators(index)) for index in range(graph.OperatorsLength())]


def operator_scope(graph: FlatbufferObject, operator: FlatbufferObject) -> str:
    """Return the names of the tensors that an operator writes, each followed by `;`."""
    names = [graph.Tensors(operator.Outputs(place)).Name() for place in range(operator.OutputsLength())]
    return "".join(f"{_text(name)};" for name in names)


def tensor_indices(vector: Sequence[int] | None) -> list[int]:
    """Return a vector of tensors, which is None where an operator or graph of the object API has none."""
    return [] if vector is None else [int(index) for index in vector]


def signature_keys(content: bytes) -> list[str]:
    """Return the names of a graph's signatures."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    found = (model.SignatureDefs(index) for index in range(model.SignatureDefsLength()))
    return [signature.SignatureKey().decode("utf-8") for signature in found]


def with_current_codes(content: bytes) -> bytes:
    """Return a graph of an older schema with its operator codes in the field that the quantizer reads, too."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    old = [code for code in model.operatorCodes if code.builtinCode < code.deprecatedBuiltinCode]
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if old else content


def with_short_names(content: bytes) -> bytes:
    """Return the graph with numbers instead of names on all tensors but its inputs and outputs."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in model.subgraphs:
        kept = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in kept:
                tensor.name = f"t{index}"
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


_PASSES_INDICES = frozenset({"CAST", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"})
"""Operators whose first input comes out with the same values."""
_TABLES = {"GATHER": (1, 0), "EMBEDDING_LOOKUP": (0, 1)}
"""Operators that look rows up, with the places of the indices and of the table among their inputs."""


def index_limits(content: bytes) -> dict[str, int]:
    """Return how many rows the tables hold that an input of the main graph looks up, by the input's name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    came_from = {graph.Inputs(place): graph.Inputs(place) for place in range(graph.InputsLength())}
    limits: dict[str, int] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        name = operator_name(model, operator.OpcodeIndex())
        indices, table = _TABLES.get(name, (0, None))
        source = came_from.get(operator.Inputs(indices)) if operator.InputsLength() > indices else None
        if source is None:
            continue
        if name in _PASSES_INDICES:
            came_from[operator.Outputs(0)] = source
        elif table is not None and (rows := graph.Tensors(operator.Inputs(table)).Shape(0)) > 0:
            key = (graph.Tensors(source).Name() or b"").decode("utf-8", "replace")
            limits[key] = min(rows, limits.get(key, rows))
    return limits


class _Reader:
    """Walks the schema's generated accessors, which copy nothing."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._limit = len(content) // _SMALLEST_ITEM_BYTES
        self._model = schema.Model.GetRootAs(content, 0)
        if not self._model.SubgraphsLength():
            raise ValueError("no subgraph")

    def facts(self) -> GraphFacts:
        codes = [self._operator_code(index) for index in self._indices(self._model.OperatorCodesLength())]
        names: Counter[str] = Counter()
        versions: dict[str, int] = {}
        custom: set[str] = set()
        weights: Counter[str] = Counter()
        seen_buffers: set[int] = set()
        for graph_index in self._indices(self._model.SubgraphsLength()):
            graph = self._model.Subgraphs(graph_index)
            for index in self._indices(graph.OperatorsLength()):
                name, version, is_custom = codes[graph.Operators(index).OpcodeIndex()]
                names[name] += 1
                versions[name] = max(versions.get(name, 0), version)
                if is_custom:
                    custom.add(name)
            for index in self._indices(graph.TensorsLength()):
                tensor = graph.Tensors(index)
                size = self._constant_bytes(tensor.Buffer(), seen_buffers)
                if size:
                    weights[_type_name(tensor.Type())] += size
        inputs, outputs = self._interface()
        return GraphFacts(
            operators=dict(sorted(names.items())),
            operator_versions=dict(sorted(versions.items())),
            custom_operators=tuple(sorted(custom)),
            weight_types=dict(sorted(weights.items())),
            inputs=inputs,
            outputs=outputs,
        )

    def _interface(self) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
        """Return the main graph's inputs and outputs in the order of its signature."""
        main = self._model.Subgraphs(0)
        found = (self._model.SignatureDefs(i) for i in self._indices(self._model.SignatureDefsLength()))
        own = [signature for signature in found if signature.SubgraphIndex() == 0]
        signature = next((one for one in own if one.SignatureKey() == SERVING), own[0] if own else None)
        inputs = [(main.Inputs(i), place) for place, i in enumerate(self._indices(main.InputsLength()))]
        outputs = [(main.Outputs(i), place) for place, i in enumerate(self._indices(main.OutputsLength()))]
        named_inputs, named_outputs = list[_Named](), list[_Named]()
        if signature is not None:
            entries = [signature.Inputs(i) for i in self._indices(signature.InputsLength())]
            named_inputs = [(_text(entry.Name()), entry.TensorIndex()) for entry in entries]
            entries = [signature.Outputs(i) for i in self._indices(signature.OutputsLength())]
            named_outputs = [(_text(entry.Name()), entry.TensorIndex()) for entry in entries]
        return self._by_signature(main, inputs, named_inputs), self._by_signature(main, outputs, named_outputs)

    def _by_signature(
        self, graph: FlatbufferObject, listed: Sequence[tuple[int, int]], named: Sequence[_Named]
    ) -> tuple[TensorType, ...]:
        """Return tensors, given by index and place, in the signature's order; what it does not name comes last."""
        left = list(listed)
        found = list[tuple[str | None, int, int]]()
        for name, index in _in_model_order(named):
            if match := next((entry for entry in left if entry[0] == index), None):
                left.remove(match)
                found.append((name, *match))
        found += [(None, *entry) for entry in left]
        return tuple(
            self._tensor(graph, index).model_copy(update={"signature_name": name, "file_place": place})
            for name, index, place in found
        )

    def _indices(self, length: int) -> range:
        """Return the indices of a vector; a length that the file has no room for is corrupt, not a long loop."""
        if not 0 <= length <= self._limit:
            raise ValueError(f"a vector of {length} items does not fit into the file")
        return range(length)

    def _operator_code(self, index: int) -> tuple[str, int, bool]:
        return (
            operator_name(self._model, index),
            self._model.OperatorCodes(index).Version(),
            _is_custom(self._model, index),
        )

    def _constant_bytes(self, buffer_index: int, seen: set[int]) -> int:
        if buffer_index in seen or buffer_index == 0:  # buffer 0 is the empty one, by convention of the schema
            return 0
        seen.add(buffer_index)
        if buffer_index >= self._model.BuffersLength():
            raise ValueError(f"buffer {buffer_index} does not exist")
        buffer = self._model.Buffers(buffer_index)
        # Files near 2 GiB keep constants behind the FlatBuffer and give their size alone.
        size = int(buffer.DataLength() or buffer.Size())
        if size > self._limit * _SMALLEST_ITEM_BYTES + _SMALLEST_ITEM_BYTES:
            raise ValueError(f"a constant of {size} bytes does not fit into the file")
        return size

    def _tensor(self, graph: FlatbufferObject, index: int) -> TensorType:
        if not 0 <= index < graph.TensorsLength():
            raise ValueError(f"tensor {index} does not exist")
        tensor = graph.Tensors(index)
        signature = self._indices(tensor.ShapeSignatureLength())
        shape = [tensor.ShapeSignature(i) for i in signature] or [
            tensor.Shape(i) for i in self._indices(tensor.ShapeLength())
        ]
        quantization = tensor.Quantization()
        quantized = quantization is not None and quantization.ScaleLength() == 1
        return TensorType(
            name=_text(tensor.Name()),
            shape=tuple(int(size) for size in shape),
            type=_type_name(tensor.Type()),
            scale=float(quantization.Scale(0)) if quantized else None,
            zero_point=int(quantization.ZeroPoint(0)) if quantized and quantization.ZeroPointLength() else None,
        )


def _in_model_order(named: Sequence[_Named]) -> list[_Named]:
    """Undo the order of the alphabet, in which the converter lists `output_10` before `output_2`."""
    matches = [_NUMBERED.fullmatch(name) for name, _ in named]
    numbers = [int(match["number"]) for match in matches if match]
    is_numbered = len(numbers) == len(named) and len({match["stem"] for match in matches if match}) == 1
    names = [name for name, _ in named]
    if not is_numbered or names != sorted(names):
        return list(named)
    return [entry for _, entry in sorted(zip(numbers, named, strict=True))]


def operator_name(model: FlatbufferObject, index: int) -> str:
    """Return the name of a model's operator code, such as `CONV_2D`, or a custom operator's own."""
    code = model.OperatorCodes(index)
    if _is_custom(model, index):
        custom = code.CustomCode()
        return custom.decode("utf-8", "replace") if custom else "CUSTOM"
    number = _operator_number(code)
    return _operator_names().get(number, f"BUILTIN_{number}")


def operator_code(model: FlatbufferObject, number: int, version: int) -> int:
    """Return the index of an operator code in an unpacked model, which gets it if it lacks it."""
    from ai_edge_litert import schema_py_generated as schema

    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _is_custom(model: FlatbufferObject, index: int) -> bool:
    return _operator_names().get(_operator_number(model.OperatorCodes(index))) == "CUSTOM"


def _operator_number(code: FlatbufferObject) -> int:
    # Codes above 127 do not fit the old field, which then holds a placeholder (see the schema's own comment).
    return int(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))


def tensor_type_name(tensor: FlatbufferObject) -> str:
    """Return NumPy's name of a tensor's type."""
    return _type_name(tensor.Type())


@cache
def _operator_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


@cache
def _tensor_type_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    return {number: _NUMPY_NAMES.get(name, name.lower()) for number, name in names.items()}


def _type_name(number: int) -> str:
    return _tensor_type_names().get(number, f"type_{number}")


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")


def _invalid(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.INVALID_MODEL, message))
