"""How each tensor of a graph stores its numbers: `code = round(real / step + offset)`, the uniform formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """One tensor's number format: code = round(real / step + offset), cut off at the ends of the type's codes."""

    tensor: str
    written_by: str
    """The operator that writes it; `weights` and `bias` for constants, `input` for what comes from outside."""
    shape: tuple[int, ...]
    type: str
    low: float | None
    """Smallest real number of the codes' range, over all channels; None for a float tensor."""
    high: float | None
    steps: tuple[float, float] | None
    """Smallest and largest step: they differ where every channel or block has its own."""
    offsets: tuple[int, int] | None
    scales: int
    """How many steps there are: 1 per tensor, or one per channel; 0 for a float tensor."""


_CODES = {"int4": (-7, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32767, 32767)}
"""Codes of each type; int4 weights are symmetric."""


def read_grids(content: bytes) -> list[Grid]:
    """Return the format of every tensor of the main graph that an operator reads or writes, in the graph's order."""
    from ai_edge_litert import schema_py_generated as schema

    from harness.tflite.flatbuffer import operator_name, tensor_type_name

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    inputs = {graph.Inputs(index): "input" for index in range(graph.InputsLength())}
    written, read = dict(inputs), dict[int, str]()
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        name = operator_name(model, operator.OpcodeIndex())
        written |= {operator.Outputs(place): name for place in range(operator.OutputsLength())}
        constants = {operator.Inputs(place): place for place in range(operator.InputsLength())}
        read |= {tensor: "bias" if place == 2 else "weights" for tensor, place in constants.items() if tensor >= 0}  # noqa: PLR2004 - third input
    order = [index for index in range(graph.TensorsLength()) if index in written or index in read]
    return [
        _grid(graph.Tensors(index), written.get(index, read.get(index, "")), tensor_type_name(graph.Tensors(index)))
        for index in order
    ]


def _grid(tensor: object, written_by: str, kind: str) -> Grid:
    quantization = tensor.Quantization()  # type: ignore[attr-defined] # generated code has no types
    name = (tensor.Name() or b"").decode("utf-8", "replace")  # type: ignore[attr-defined]
    shape = tuple(tensor.Shape(place) for place in range(tensor.ShapeLength()))  # type: ignore[attr-defined]
    if quantization is None or not quantization.ScaleLength():
        return Grid(name, written_by, shape, kind, None, None, None, None, 0)
    steps = quantization.ScaleAsNumpy().astype(np.float64)
    offsets = quantization.ZeroPointAsNumpy() if quantization.ZeroPointLength() else np.zeros(1, np.int64)
    limits = _CODES.get(kind)
    low, high = (
        (float((steps * (limits[0] - offsets)).min()), float((steps * (limits[1] - offsets)).max()))
        if limits
        else (None, None)
    )
    return Grid(
        name,
        written_by,
        shape,
        kind,
        low,
        high,
        (float(steps.min()), float(steps.max())),
        (int(offsets.min()), int(offsets.max())),
        len(steps),
    )
