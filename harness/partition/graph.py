"""The graph of a `.tflite` as plain data: which operator needs what of which other, and what crosses a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

from harness.errors import UsageError
from harness.tflite.flatbuffer import operator_name, read_graph, tensor_type_name
from harness.tflite.library_types import FlatbufferObject

_CONTROL_FLOW = ("WHILE", "IF", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE")
_STATEFUL = (
    "CALL_ONCE",
    "VAR_HANDLE",
    "READ_VARIABLE",
    "ASSIGN_VARIABLE",
    "HASHTABLE",
    "HASHTABLE_FIND",
    "HASHTABLE_IMPORT",
    "RANDOM_UNIFORM",
    "RANDOM_STANDARD_NORMAL",
    "MULTINOMIAL",
)
_SIZED_BY_VALUES = ("WHERE", "UNIQUE")
_BITS = {
    "float16": 16,
    "bfloat16": 16,
    "int16": 16,
    "uint16": 16,
    "float64": 64,
    "int64": 64,
    "uint64": 64,
    "int8": 8,
    "uint8": 8,
    "bool": 8,
    "int4": 4,
    "uint4": 4,
    "int2": 2,
    "complex64": 64,
    "complex128": 128,
}
_USUAL_BITS = 32


@dataclass(frozen=True)
class Tensor:
    """A value that flows through the graph, or a constant."""

    name: str
    shape: tuple[int, ...]
    type: str
    """NumPy's name."""
    open_sizes: tuple[int, ...] = ()
    """Places in `shape` where the file leaves the size open; `shape` has the size that it gets if nobody says."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return (prod(self.shape) * _BITS.get(self.type, _USUAL_BITS) + 7) // 8


@dataclass(frozen=True)
class Operator:
    """One node; `inputs` leave out what is absent, and hold constants too."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A main graph whose operators stand in an order of execution. Tensors are named by their index in the file."""

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: frozenset[int]
    """Tensors whose content lies in the file."""

    @cached_property
    def constant_operators(self) -> frozenset[int]:
        """Operators that compute the same whatever the input is, such as the DEQUANTIZE of a weight.

        They belong to every stage that uses their result: it is no value that would have to cross.
        """
        fixed, found = set(self.constants), set()
        for index, operator in enumerate(self.operators):
            if operator.inputs and fixed.issuperset(operator.inputs):
                found.add(index)
                fixed.update(operator.outputs)
        return frozenset(found)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The operators that a cut can lie between, in order: all but the constant ones."""
        return tuple(index for index in range(len(self.operators)) if index not in self.constant_operators)

    @cached_property
    def producers(self) -> Mapping[int, int]:
        """Which operator writes a tensor."""
        return {tensor: index for index, operator in enumerate(self.operators) for tensor in operator.outputs}

    def crossing(self, position: int) -> tuple[int, ...]:
        """Return the tensors that cross a cut before the step `position`: written before it, read after it."""
        before = {tensor for index in self.steps[:position] for tensor in self.operators[index].outputs}
        needed = (tensor for index in self.steps[position:] for tensor in self.operators[index].inputs)
        return tuple(dict.fromkeys(tensor for tensor in needed if tensor in before))

    def crossing_bytes(self, position: int) -> int:
        """Return how many bytes cross a cut before the step `position` for one inference."""
        return sum(self.tensors[tensor].size_bytes for tensor in self.crossing(position))


def read_partitionable(content: bytes, *, name: str) -> Graph:
    """Read the graph of a `.tflite` file's content; `name` starts the error sentence.

    Raises `CompressionError` (invalid_model) for what is no model, and `UsageError` for one that cannot be cut: control
    flow, state between inferences, custom operators, nothing to cut.
    """
    facts = read_graph(content, name=name)
    if facts.custom_operators:
        raise _refusal(
            f"{name} holds the custom operator {facts.custom_operators[0]}, whose stages nobody could check."
        )
    for operators, words in ((_STATEFUL, "keeps state, or draws at random"), (_CONTROL_FLOW, "loops or branches")):
        if found := next((operator for operator in facts.operators if operator in operators), None):
            raise _refusal(f"{name} {words} ({found}): a cut through that would compute something else.")
    graph = _main_graph(content, name)
    _require_known_sizes(graph, name)
    if len(graph.steps) < 2:  # noqa: PLR2004 - a cut lies between two
        raise _refusal(f"{name} has {len(graph.steps)} operator that depends on its input; there is nothing to cut.")
    return graph


def _main_graph(content: bytes, name: str) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() > 1:
        raise _refusal(f"{name} has {model.SubgraphsLength()} graphs; only one with a single graph can be cut.")
    main = model.Subgraphs(0)
    stored = [main.Tensors(index) for index in range(main.TensorsLength())]
    if variable := next((_name(tensor) for tensor in stored if tensor.IsVariable()), None):
        raise _refusal(f"{name} keeps state between inferences in {variable!r}: a cut would lose it.")
    tensors = tuple(
        Tensor(
            _name(tensor),
            tuple(map(int, tensor.ShapeAsNumpy())) if tensor.ShapeLength() else (),
            tensor_type_name(tensor),
            _open_sizes(tensor),
        )
        for tensor in stored
    )
    operators = tuple(_operator(model, main.Operators(index)) for index in range(main.OperatorsLength()))
    inputs = tuple(main.Inputs(place) for place in range(main.InputsLength()))
    outputs = tuple(main.Outputs(place) for place in range(main.OutputsLength()))
    written = {*inputs, *(tensor for operator in operators for tensor in operator.outputs)}
    return Graph(operators, tensors, inputs, outputs, frozenset(range(len(tensors))) - written)


def _require_known_sizes(graph: Graph, name: str) -> None:
    """Refuse what changes its size from one input to the next; a batch of open size is taken to be one."""
    inputs = [graph.tensors[index] for index in graph.inputs]
    if tensor := next((tensor for tensor in inputs if any(tensor.open_sizes) or 0 in tensor.shape), None):
        sizes = [-1 if place in tensor.open_sizes else size for place, size in enumerate(tensor.shape)]
        raise UsageError(
            f"{name} leaves the size of its input {tensor.name!r} open ({sizes}), so that no stage has a size.",
            "Convert the model with a fixed one.",
        )
    is_batch_open = any(tensor.open_sizes for tensor in inputs)
    for index in graph.steps:
        operator = graph.operators[index]
        is_open = any(graph.tensors[tensor].open_sizes for tensor in operator.outputs)
        if operator.name in _SIZED_BY_VALUES or (is_open and not is_batch_open):
            raise _refusal(
                f"{name} has results whose size depends on values ({operator.name}): nothing of open size can cross."
            )


def _open_sizes(tensor: FlatbufferObject) -> tuple[int, ...]:
    signature = tensor.ShapeSignatureAsNumpy() if tensor.ShapeSignatureLength() else ()
    return tuple(place for place, size in enumerate(signature) if size < 0)


def _operator(model: FlatbufferObject, node: FlatbufferObject) -> Operator:
    inputs = tuple(tensor for place in range(node.InputsLength()) if (tensor := node.Inputs(place)) >= 0)
    outputs = tuple(node.Outputs(place) for place in range(node.OutputsLength()))
    return Operator(operator_name(model, node.OpcodeIndex()), inputs, outputs)


def _name(tensor: FlatbufferObject) -> str:
    return (tensor.Name() or b"").decode("utf-8", "replace")


def _refusal(message: str) -> UsageError:
    return UsageError(message, "Partition another model; `harness compress` and `harness sweep` take this one whole.")


_KERNEL = 1
"""Which input of the operators below is the kernel."""


def estimate_work(graph: Graph) -> list[float]:
    """Return multiply-adds for each of `graph.steps`, at least the number of elements that the step writes."""
    return [_work(graph, graph.operators[index]) for index in graph.steps]


def _work(graph: Graph, operator: Operator) -> float:
    written = sum(prod(graph.tensors[tensor].shape) for tensor in operator.outputs)
    per_output = _PER_OUTPUT.get(operator.name)
    if per_output is None or len(operator.inputs) <= _KERNEL:
        return float(max(written, 1))
    return float(max(written, 1) * per_output(graph.tensors[operator.inputs[_KERNEL]].shape))


_PER_OUTPUT: dict[str, Callable[[tuple[int, ...]], int]] = {
    "CONV_2D": lambda kernel: prod(kernel[1:]),  # [out, height, width, in]
    "CONV_3D": lambda kernel: prod(kernel[:-1]),  # [depth, height, width, in, out]
    "DEPTHWISE_CONV_2D": lambda kernel: prod(kernel[1:3]),  # [1, height, width, channels]
    "FULLY_CONNECTED": lambda kernel: kernel[-1] if kernel else 1,  # [out, in]
    "BATCH_MATMUL": lambda other: other[-2] if len(other) > 1 else 1,
    "TRANSPOSE_CONV": lambda kernel: prod(kernel[1:]),  # each output gathers about as much as each input spreads
}
"""Multiply-adds for one element of the output, by the shape of the kernel."""
