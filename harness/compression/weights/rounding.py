"""Choose the grids of quantized weights again: fewer bits than the storage has, or the scale of least error.

`weight = scale * code`, one scale per channel or tensor, codes from -limit to limit; zero is always code 0.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.tflite.library_types import FlatbufferObject
from harness.tflite.weights import float_constants

ScaleRule = Literal["largest", "least-error"]

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int8]

_CANDIDATES = np.linspace(0.3, 1.0, 71)
"""Scales tried, as shares of the one that reaches the largest weight."""
_FALLBACK_SCALE = 1.0
"""For a tensor of zeros alone."""


def quantize_weight(weight: Floats, bits: int, *, axis: int | None, rule: ScaleRule) -> tuple[Codes, Floats]:
    """Return codes in the weight's shape and one scale per channel along `axis` (one in all for None).

    `largest` reaches the largest weight. `least-error` is the scale with the smallest squared error over the weights
    that are not zero: zeros are exact under every scale, so in a pruned tensor they must not vote.
    """
    limit = 2 ** (bits - 1) - 1
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    scales = np.abs(rows).max(axis=1) / limit
    # A channel of zeros alone borrows a scale: a bias counted in units of next to nothing would overflow.
    scales = np.where(scales > 0, scales, scales.max(initial=0.0) or _FALLBACK_SCALE)
    if rule == "least-error":
        scales = _least_error(rows, scales, limit)
    codes = np.clip(np.round(rows / scales[:, None]), -limit, limit).astype(np.int8)
    if axis is None:
        return codes.reshape(weight.shape), scales
    moved = codes.reshape(weight.shape[axis], *np.delete(weight.shape, axis))
    return np.moveaxis(moved, 0, axis), scales


def _least_error(rows: Floats, largest: Floats, limit: int) -> Floats:
    best, best_error = largest, np.full(len(rows), np.inf)
    for share in _CANDIDATES:
        scales = largest * share
        error = ((np.clip(np.round(rows / scales[:, None]), -limit, limit) * scales[:, None] - rows) ** 2).sum(axis=1)
        better = error < best_error
        best, best_error = np.where(better, scales, best), np.where(better, error, best_error)
    return best


def regrid(quantized: bytes, original: bytes, *, int4_bits: int = 4, rule: ScaleRule) -> bytes:
    """Return the quantized graph with the weights of its convolutions and dense layers on new grids.

    `original` is the float graph that `quantized` was made of: weights are found by their tensors' names. What is
    stored as int4 takes codes of `int4_bits`, 4 or fewer; int8 keeps its 8. Integer biases follow, since
    their scale is input scale times weight scale.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(quantized))
    floats = float_constants(original)
    done: set[int] = set()
    for operator, tensors in _weighted_operators(model):
        weight = tensors[operator.inputs[1]]
        values = floats.get(weight.name)
        if values is None or weight.buffer in done or not _is_plain_integer(weight):
            continue
        done.add(weight.buffer)
        is_int4 = _type_name(weight) == "INT4"
        quantization = weight.quantization
        axis = quantization.quantizedDimension if len(quantization.scale) > 1 else None
        codes, scales = quantize_weight(values, int4_bits if is_int4 else 8, axis=axis, rule=rule)
        quantization.scale = scales.astype(np.float32)
        model.buffers[weight.buffer].data = _packed(codes) if is_int4 else codes.reshape(-1).view(np.uint8)
        _rescale_bias(model, operator, tensors, floats, scales)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _weighted_operators(model: FlatbufferObject) -> list[tuple[FlatbufferObject, FlatbufferObject]]:
    """Return each operator that has a kernel as its second input, with the tensors of its subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    codes = schema.BuiltinOperator
    kinds = {codes.CONV_2D, codes.DEPTHWISE_CONV_2D, codes.FULLY_CONNECTED}
    return [
        (operator, graph.tensors)
        for graph in model.subgraphs
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds
    ]


def _is_plain_integer(tensor: FlatbufferObject) -> bool:
    """Return True if a tensor holds integers with one scale per tensor or channel; blocks keep their own."""
    from ai_edge_litert import schema_py_generated as schema

    quantization = tensor.quantization
    return (
        _type_name(tensor) in ("INT4", "INT8")
        and quantization is not None
        and quantization.scale is not None
        and quantization.detailsType == schema.QuantizationDetails.NONE
    )


def _type_name(tensor: FlatbufferObject) -> str:
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    return str(names[tensor.type])


def _packed(codes: Codes) -> NDArray[np.uint8]:
    """Return int4 codes two a byte, the first of two in the low half."""
    flat = codes.reshape(-1).view(np.uint8)
    padded = np.append(flat, np.zeros(len(flat) % 2, np.uint8)) & 0xF
    return np.asarray(padded[0::2] | (padded[1::2] << 4), np.uint8)


def _rescale_bias(
    model: FlatbufferObject,
    operator: FlatbufferObject,
    tensors: FlatbufferObject,
    floats: dict[bytes, Floats],
    scales: Floats,
) -> None:
    index = operator.inputs[2] if len(operator.inputs) > 2 else -1  # noqa: PLR2004 - input, weights, bias
    source = tensors[operator.inputs[0]].quantization
    if index < 0 or source is None or source.scale is None or tensors[index].name not in floats:
        return
    bias = tensors[index]
    kind: Any = {"INT32": np.int32, "INT64": np.int64}.get(_type_name(bias))
    if kind is None:
        return
    bias_scales = float(source.scale[0]) * scales
    codes = np.round(floats[bias.name].astype(np.float64) / bias_scales)
    limits = np.iinfo(kind)
    model.buffers[bias.buffer].data = np.clip(codes, limits.min, limits.max).astype(kind).view(np.uint8)
    bias.quantization.scale = bias_scales.astype(np.float32)
    bias.quantization.zeroPoint = np.zeros(len(bias_scales), np.int64)
