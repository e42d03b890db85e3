"""How much work each step of a graph is, estimated from shapes: a stand-in where no device was asked."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from harness.partition.graph import Graph, Operator

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
