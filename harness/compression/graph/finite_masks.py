"""Masks of attention: -1e9 or -10000 added to a score, which no step of int8 or int16 can share with scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.tflite.library_types import FlatbufferObject
from harness.tflite.weights import float_constant

if TYPE_CHECKING:
    from harness.compression.graph.ranges import Ranges

MASKED = -1e8
"""Values beyond are stand-ins for infinity, such as Keras's -2.4e38 for the masked scores of an attention.

With them in the range one step is larger than every score. No network computes -1e8, but 1e8 may be a power spectrum.
"""
MASK_DISTANCE = 12.0
"""How far below the smallest score masked ones have to be: exp(-12) leaves them no weight."""
_LEAST_PRODUCT = -1000.0
"""A product that reaches this far below before a softmax is a mask, such as BERT's (1 - mask) * -10000."""


def with_finite_masks(graph: bytes, ranges: Ranges) -> tuple[bytes, Ranges]:
    """Return the graph with masks that reach no further below the scores than they need to, and the ranges with them.

    A mask is a constant that is added to scores or subtracted from them, or a constant factor of what is. Where a
    softmax reads the sum, whatever lies far below all scores is a mask; elsewhere what no network computes. The runtime
    aborts on an ADD of operands whose steps differ as those of -1e9 and a score. Without masks, both come back.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    changed: Ranges = {}
    found: dict[tuple[int, float], list[tuple[_Mask, float]]] = {}
    for mask in [mask for subgraph in model.subgraphs for mask in _Subgraph(model, subgraph).masks()]:
        reach = _reach(model, mask, ranges | changed)
        if reach is not None:
            changed |= _sums(model, mask, reach, ranges | changed)
            found.setdefault((id(mask.constant), mask.sign), []).append((mask, reach))
    for shared in found.values():  # the layers of a transformer share one mask, which has to reach for all of them
        changed |= _shorten(model, shared[0][0], max(reach for _, reach in shared), ranges)
    if not found:
        return graph, ranges
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), ranges | changed


@dataclass(frozen=True)
class _Mask:
    """What is added to scores. Tensors are named."""

    scores: str
    constant: FlatbufferObject
    """The mask, or a constant factor of it."""
    other_factor: str
    products: tuple[str, ...]
    """What the factors make, on its way to the sum; empty if the constant is the mask."""
    sums: tuple[tuple[str, tuple[str, ...]], ...]
    """The sum on its way to a softmax, each with what has been added to it by then; empty if none reads it."""
    sign: float
    """-1 if it is subtracted."""


class _Subgraph:
    """Operators by what they write."""

    def __init__(self, model: FlatbufferObject, subgraph: FlatbufferObject) -> None:
        self._model, self._subgraph = model, subgraph
        self._writers = {int(index): node for node in subgraph.operators for index in node.outputs}

    def masks(self) -> Iterator[_Mask]:
        """Yield what may be masks."""
        sums: dict[int, tuple[tuple[str, tuple[str, ...]], ...]] = {}
        for node in self._subgraph.operators:
            if self._kind(node) == "SOFTMAX":
                self._add_sums(int(node.inputs[0]), (), sums)
        for index, node in self._writers.items():
            kind = self._kind(node)
            if kind not in ("ADD", "SUB"):
                continue
            sign, read = 1.0 if kind == "ADD" else -1.0, sums.get(index, ())
            for scores, mask in [(0, 1), (1, 0)] if sign > 0 else [(0, 1)]:  # what is subtracted comes second
                given, way = self._name(node.inputs[scores]), self._way_back(int(node.inputs[mask]))
                made = self._writers.get(way[-1])
                if self._is_constant(way[-1]):
                    yield _Mask(given, self._subgraph.tensors[way[-1]], "", (), read, sign)
                elif made is not None and self._kind(made) == "MUL" and read:
                    products = tuple(map(self._name, way))
                    for constant, other in (made.inputs, made.inputs[::-1]):
                        if self._is_constant(constant):
                            tensor = self._subgraph.tensors[constant]
                            yield _Mask(given, tensor, self._name(other), products, read, sign)

    def _add_sums(
        self,
        index: int,
        before: tuple[tuple[str, tuple[str, ...]], ...],
        sums: dict[int, tuple[tuple[str, tuple[str, ...]], ...]],
    ) -> None:
        """Find the sums that a tensor on its way to a softmax is made of; `before` are those that it goes into."""
        way = self._way_back(index)
        node = self._writers.get(way[-1])
        if node is None or self._kind(node) not in ("ADD", "SUB"):
            return
        read = (*((self._name(place), ()) for place in way), *before)
        sums[way[-1]] = read
        for place, other in (node.inputs, node.inputs[::-1]):
            added = tuple((name, (*names, self._name(other))) for name, names in read)
            self._add_sums(int(place), added, sums)

    def _way_back(self, index: int) -> list[int]:
        """Return a tensor and those before it whose values it has, up to the one that an operator computes."""
        way = [index]
        while (node := self._writers.get(way[-1])) is not None:
            if self._kind(node) not in ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"):
                break
            way.append(int(node.inputs[0]))
        return way

    def _kind(self, node: FlatbufferObject) -> str:
        from ai_edge_litert import schema_py_generated as schema

        code = self._model.operatorCodes[node.opcodeIndex].builtinCode
        kinds = ("ADD", "SUB", "MUL", "SOFTMAX", "RESHAPE", "EXPAND_DIMS", "SQUEEZE")
        return next((kind for kind in kinds if getattr(schema.BuiltinOperator, kind) == code), "")

    def _name(self, index: int) -> str:
        return (self._subgraph.tensors[index].name or b"").decode("utf-8")

    def _is_constant(self, index: int) -> bool:
        return float_constant(self._model, self._subgraph.tensors[index]) is not None


def _reach(model: FlatbufferObject, mask: _Mask, ranges: Ranges) -> float | None:
    """Return how far a mask has to reach below its scores; None if it is no mask, or reaches no further."""
    values = float_constant(model, mask.constant)
    if values is None or mask.scores not in ranges:
        return None
    low, high = _ends(ranges, mask.scores)
    reach = high - low + MASK_DISTANCE
    if mask.products:
        lowest, limit = float((mask.sign * _products(mask, values, ranges)).min()), min(_LEAST_PRODUCT, -reach)
    else:
        lowest, limit = float((mask.sign * values).min()), -reach if mask.sums else MASKED
    return reach if lowest < limit else None


def _sums(model: FlatbufferObject, mask: _Mask, reach: float, ranges: Ranges) -> Ranges:
    """Return the ranges of the sums that a softmax reads without what is masked."""
    low, _ = _ends(ranges, mask.scores)
    values = float_constant(model, mask.constant)
    bias = 0.0
    if values is not None and not mask.products:
        signed = mask.sign * values
        bias = float(signed[signed >= -reach].min(initial=0.0))  # what is added to scores that count
    changed: Ranges = {}
    for name, others in mask.sums:
        if name in ranges:
            floor = low + bias - MASK_DISTANCE - sum(max(map(abs, _ends(ranges, other))) for other in others)
            changed[name] = range_between(max(_ends(ranges, name)[0], floor), _ends(ranges, name)[1])
    return changed


def _shorten(model: FlatbufferObject, mask: _Mask, reach: float, ranges: Ranges) -> Ranges:
    """Give a mask a shorter reach, in a buffer of its own since others may read the old one; return changed ranges."""
    from ai_edge_litert import schema_py_generated as schema

    values = float_constant(model, mask.constant)
    assert values is not None  # noqa: S101 - it has a reach
    changed: Ranges = {}
    if mask.products:
        ends = _products(mask, values, ranges)
        share = -reach / float((mask.sign * ends).min())
        short = values * np.float32(share)
        changed = {name: range_between(share * ends.min(), share * ends.max()) for name in mask.products}
    else:
        short = np.where(mask.sign * values < -reach, np.float32(-mask.sign * reach), values)
    buffer = schema.BufferT()
    buffer.data = short.astype("<f4").ravel().view(np.uint8)
    model.buffers.append(buffer)
    mask.constant.buffer = len(model.buffers) - 1
    return changed


def _products(mask: _Mask, values: NDArray[np.float32], ranges: Ranges) -> NDArray[np.float64]:
    """Return the products of the ends of both factors."""
    return np.multiply.outer(_ends(ranges, mask.other_factor), [values.min(), values.max()])


def _ends(ranges: Ranges, name: str) -> tuple[float, float]:
    """Return the smallest and largest value of a tensor; zeros for a constant, which has no range."""
    found = ranges.get(name)
    return (0.0, 0.0) if found is None else (float(found["min"].item()), float(found["max"].item()))


def range_between(low: float, high: float) -> dict[str, NDArray[np.float32]]:
    """Return the range of one tensor as the quantizer takes it."""
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
