"""Write the stages of a graph as `.tflite` files of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.partition.graph import Graph
from harness.tflite.library_types import FlatbufferObject


@dataclass(frozen=True)
class Stage:
    """One stage: the bytes of a `.tflite`, and which tensors of the whole graph it takes and gives, in its order."""

    content: bytes
    operators: tuple[int, ...]
    """Of the whole graph, in the order of execution; constant ones may be in several stages."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def split(content: bytes, graph: Graph, cuts: Sequence[int]) -> list[Stage]:
    """Cut a graph before each of the steps `cuts`, ascending positions of `graph.steps`; return its stages in order.

    A stage takes whatever it needs that it does not compute: inputs of the model, results of any earlier stage. It
    gives what a later stage or the caller needs. Operators, constants and quantization stay as they are.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    whole = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    ends = [0, *cuts, len(graph.steps)]
    stages = []
    for start, end in pairwise(ends):
        operators = _with_constant_ones(graph, graph.steps[start:end])
        inputs, outputs = _interface(graph, operators, graph.steps[end:])
        model = _cut_out(whole, operators, inputs, outputs)
        stages.append(Stage(bytes(flatbuffer_utils.convert_object_to_bytearray(model)), operators, inputs, outputs))
    return stages


def _with_constant_ones(graph: Graph, steps: Sequence[int]) -> tuple[int, ...]:
    """Add the constant operators whose results these steps need, directly or through one another."""
    operators, waiting = set(steps), list(steps)
    while waiting:
        for tensor in graph.operators[waiting.pop()].inputs:
            producer = graph.producers.get(tensor)
            if producer in graph.constant_operators and producer not in operators:
                operators.add(producer)
                waiting.append(producer)
    return tuple(sorted(operators))


def _interface(graph: Graph, operators: Sequence[int], later: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a stage takes and what it gives."""
    written = dict.fromkeys(tensor for index in operators for tensor in graph.operators[index].outputs)
    read = dict.fromkeys(tensor for index in operators for tensor in graph.operators[index].inputs)
    needed = {tensor for index in later for tensor in graph.operators[index].inputs} | set(graph.outputs)
    constant = {tensor for index in graph.constant_operators for tensor in graph.operators[index].outputs}
    inputs = tuple(tensor for tensor in read if tensor not in written and tensor not in graph.constants)
    return inputs, tuple(tensor for tensor in written if tensor in needed - (constant - set(graph.outputs)))


def _cut_out(
    whole: FlatbufferObject, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
) -> FlatbufferObject:
    """Return a model of some operators of a model, both as the schema's objects."""
    main = whole.subgraphs[0]
    chosen = [main.operators[index] for index in operators]
    used = dict.fromkeys([*inputs, *outputs])
    for node in chosen:
        for tensors in (node.inputs, node.outputs, node.intermediates):
            used.update(
                dict.fromkeys(int(tensor) for tensor in (tensors if tensors is not None else ()) if tensor >= 0)
            )
    tensors, buffers = _Numbers(used), _Numbers({0: None})  # buffer 0 is the empty one, by convention of the schema
    codes = _Numbers(dict.fromkeys(node.opcodeIndex for node in chosen))

    model = copy.copy(whole)
    graph = copy.copy(main)
    graph.tensors = []
    for index in tensors.old:
        tensor = copy.copy(main.tensors[index])
        tensor.buffer = buffers.of(tensor.buffer)
        graph.tensors.append(tensor)
    graph.operators = [_renumbered(node, tensors, codes) for node in chosen]
    graph.inputs, graph.outputs = ([tensors.of(index) for index in side] for side in (inputs, outputs))
    model.subgraphs = [graph]
    model.buffers = [whole.buffers[index] for index in buffers.old]
    model.operatorCodes = [whole.operatorCodes[index] for index in codes.old]
    model.signatureDefs, model.metadata, model.metadataBuffer = [], [], []  # they speak of the whole
    return model


class _Numbers:
    """New numbers for old ones, in the order of their first use."""

    def __init__(self, old: dict[int, None]) -> None:
        self.old = list(old)
        self._new = {number: index for index, number in enumerate(self.old)}

    def of(self, number: int) -> int:
        """Return the new number of an old one, which is given one if it has none; below zero means none at all."""
        if number < 0:
            return number
        if number not in self._new:
            self._new[number] = len(self.old)
            self.old.append(number)
        return self._new[number]


def _renumbered(node: FlatbufferObject, tensors: _Numbers, codes: _Numbers) -> FlatbufferObject:
    node = copy.copy(node)
    node.opcodeIndex = codes.of(node.opcodeIndex)
    for field in ("inputs", "outputs", "intermediates"):
        if (old := getattr(node, field)) is not None:
            setattr(node, field, [tensors.of(int(number)) for number in old])
    return node
