"""Choose the grids of quantized weights again: fewer bits than the storage has, or the scale of least error.

`weight = scale * code`, one scale per channel or tensor, codes from -limit to limit; zero is always code 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.compression.weights.error_aware import in_place, round_by_inputs, rows_of
from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import FlatbufferObject
from harness.tflite.weights import KERNEL_INPUT, OUTPUT_CHANNEL_AXES, float_constant

ScaleRule = Literal["largest", "least-error"]

_BIAS_TYPES = {"INT32": "<i4", "INT64": "<i8"}

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int8]

KnownCodes = dict[tuple[int, int, int | None, bytes], tuple[Codes, Floats]]
"""Codes and scales by float kernel, bits, axis of the scales, and the smallest scales."""

_CANDIDATES = np.linspace(0.3, 1.0, 71)
"""Scales tried, as shares of the one that reaches the largest weight."""
_FALLBACK_SCALE = 1.0
"""For a tensor of zeros alone."""
_SMALLEST_SCALE = 1e-25
"""Below about 1e-38, runtimes refuse the scale of a weight, or its product with that of an input."""
_LARGEST_BIAS = 2**30
"""Code of the largest bias: half of what int32 holds, as in TensorFlow's converter; the sums need the other half."""
_BIAS_TOLERANCE = 0.005
"""A stored bias may be off by this share of itself, or by half a step if that is more."""


def quantize_weight(
    weight: Floats,
    bits: int,
    *,
    axis: int | None,
    rule: ScaleRule,
    floor: Floats | float = 0.0,
    output_axis: int = 0,
    moments: Floats | None = None,
) -> tuple[Codes, Floats]:
    """Return codes in the weight's shape and one scale per channel along `axis` (one in all for None).

    `largest` reaches the largest weight. `least-error` is the scale with the smallest squared error over the weights
    that are not zero: zeros are exact under every scale, so in a pruned tensor they must not vote. No scale is smaller
    than its `floor`. With the `moments` of the inputs of each output channel (along `output_axis`), errors count by the
    size of what they are multiplied with, and are rounded so that they cancel, see `round_by_inputs`.
    """
    limit = 2 ** (bits - 1) - 1
    outputs = rows_of(weight, output_axis)
    rows = weight.reshape(1, -1) if axis is None else rows_of(weight, axis)
    scales = np.abs(rows).max(axis=1) / limit
    # A channel of zeros alone borrows a scale: a bias counted in units of next to nothing would overflow.
    scales = np.where(scales > 0, scales, scales.max(initial=0.0) or _FALLBACK_SCALE)
    if rule == "least-error":
        votes = np.ones(1) if moments is None else np.diagonal(moments, axis1=1, axis2=2)
        votes = in_place(np.broadcast_to(votes, outputs.shape), weight.shape, output_axis)
        scales = _least_error(rows, scales, limit, rows_of(votes, axis or 0).reshape(rows.shape))
    scales = np.maximum(scales, floor)
    if moments is not None and (axis is None or axis == output_axis):
        codes = round_by_inputs(outputs, np.broadcast_to(scales, len(outputs)), moments, limit)
        return in_place(codes, weight.shape, output_axis), scales
    codes = np.clip(np.round(rows / scales[:, None]), -limit, limit).astype(np.int8)
    return codes.reshape(weight.shape) if axis is None else in_place(codes, weight.shape, axis), scales


def _least_error(rows: Floats, largest: Floats, limit: int, votes: Floats) -> Floats:
    best, best_error = largest, np.full(len(rows), np.inf)
    for share in _CANDIDATES:
        scales = largest * share
        rounded = np.clip(np.round(rows / scales[:, None]), -limit, limit) * scales[:, None]
        error = (votes * (rounded - rows) ** 2).sum(axis=1)
        better = error < best_error
        best, best_error = np.where(better, scales, best), np.where(better, error, best_error)
    return best


@dataclass(frozen=True)
class _Layer:
    """One operator of a quantized graph with a constant kernel of integers, and the same operator's float numbers."""

    name: str
    kernel: FlatbufferObject
    source: int
    """The buffer of the float kernel in the float graph."""
    output_axis: int
    values: Floats
    input_scale: float | None
    """None if its input is float."""

    bias: FlatbufferObject | None
    """Its integer bias."""

    bias_values: Floats

    def floor(self) -> Floats:
        """Return the smallest scale of each of the kernel's channels under which the bias fits."""
        scales = self.kernel.quantization.scale
        if self.bias is None or not self.input_scale:
            return np.full(len(scales), _SMALLEST_SCALE)
        fits = np.abs(self.bias_values) / (_LARGEST_BIAS * self.input_scale)
        return np.maximum(fits if len(scales) > 1 else fits.max(keepdims=True), _SMALLEST_SCALE)


def regrid(
    quantized: bytes,
    original: bytes,
    *,
    int4_bits: int = 4,
    rule: ScaleRule = "largest",
    moments: Mapping[int, Floats] | None = None,
    known: KnownCodes | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> bytes:
    """Return the quantized graph with the weights of its layers on new grids, on which every bias fits.

    `original` is the float graph that `quantized` was made of, with the same layers in the same order. What is stored
    as int4 takes codes of `int4_bits`, 4 or fewer; int8 keeps its 8. Integer biases are counted in input scale times
    weight scale: where the weights of a channel are next to nothing, their scale grows until the bias fits.
    `moments`, by buffer of the float kernel, are those of `quantize_weight`. `known` keeps codes for the next call on
    the same `original`, `rule` and `moments`. `progress` receives how many layers there are, and how many are done.
    Raises `CompressionError` if a bias is not what the float graph says.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model, floats = (flatbuffer_utils.read_model_from_bytearray(bytearray(graph)) for graph in (quantized, original))
    layers = list(_layers(model, floats))
    floors: dict[int, Floats] = {}
    for layer in layers:  # one kernel may serve several layers
        floors[layer.kernel.buffer] = np.maximum(floors.get(layer.kernel.buffer, 0.0), layer.floor())
    known = {} if known is None else known
    for place, layer in enumerate(layers):
        quantization = layer.kernel.quantization
        is_int4 = _type_name(layer.kernel) == "INT4"
        axis = quantization.quantizedDimension if len(quantization.scale) > 1 else None
        bits, floor = int4_bits if is_int4 else 8, floors[layer.kernel.buffer]
        key = layer.source, bits, axis, floor.tobytes()
        if key not in known:
            if progress is not None:
                progress(len(layers), place, "")
            known[key] = quantize_weight(
                layer.values,
                bits,
                axis=axis,
                rule=rule,
                floor=floor,
                output_axis=layer.output_axis,
                moments=(moments or {}).get(layer.source),
            )
        codes, scales = known[key]
        quantization.scale = scales.astype(np.float32)
        data = _packed(codes) if is_int4 else codes.reshape(-1).view(np.uint8)
        model.buffers[layer.kernel.buffer].data = data
        _write_bias(model, layer, scales)
    _check_biases(model, layers)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _layers(model: FlatbufferObject, floats: FlatbufferObject) -> Iterator[_Layer]:
    pairs = zip(_weighted_operators(model), _weighted_operators(floats), strict=True)
    for (kind, inputs), (_, float_inputs) in pairs:
        kernel, values = inputs[KERNEL_INPUT], float_constant(floats, float_inputs[KERNEL_INPUT])
        if values is None or not _is_plain_integer(kernel):
            continue
        place = 2 if kind == "TRANSPOSE_CONV" else 0  # whose first input is the shape of its output
        source, bias = inputs[place].quantization, inputs[place + 1 if place else 2]
        biases = float_constant(floats, float_inputs[place + 1 if place else 2])
        is_counted = bias is not None and biases is not None and _type_name(bias) in _BIAS_TYPES
        yield _Layer(
            kernel.name.decode("utf-8", "replace"),
            kernel,
            float_inputs[KERNEL_INPUT].buffer,
            OUTPUT_CHANNEL_AXES[kind],
            values,
            None if source is None or source.scale is None else float(source.scale[0]),
            bias if is_counted else None,
            np.zeros(1) if biases is None else biases.astype(np.float64),
        )


def _write_bias(model: FlatbufferObject, layer: _Layer, scales: Floats) -> None:
    if layer.bias is None or not layer.input_scale:
        return
    steps = layer.input_scale * scales
    kind = _BIAS_TYPES[_type_name(layer.bias)]
    model.buffers[layer.bias.buffer].data = np.rint(layer.bias_values / steps).astype(kind).view(np.uint8)
    layer.bias.quantization.scale = steps.astype(np.float32)
    layer.bias.quantization.zeroPoint = np.zeros(len(steps), np.int64)


def _check_biases(model: FlatbufferObject, layers: list[_Layer]) -> None:
    """Compare what the file now says with the float biases. Raises `CompressionError`."""
    for layer in layers:
        if layer.bias is None or not layer.input_scale:
            continue
        steps = layer.input_scale * np.asarray(layer.kernel.quantization.scale, np.float64)
        stored = np.asarray(model.buffers[layer.bias.buffer].data).view(_BIAS_TYPES[_type_name(layer.bias)]) * steps
        allowed = np.maximum(_BIAS_TOLERANCE * np.abs(layer.bias_values), 0.51 * steps)
        wrong = np.flatnonzero(np.abs(stored - layer.bias_values) > allowed)
        if wrong.size:
            channel = int(wrong[0])
            message = (
                f"Cannot store the bias of {layer.name}, channel {channel}: {layer.bias_values[channel]:.6g} would "
                f"become {stored[channel]:.6g}. Keep this layer in float (see `layers` in docs/techniques.md)."
            )
            raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))


def _weighted_operators(model: FlatbufferObject) -> Iterator[tuple[str, list[FlatbufferObject]]]:
    """Yield the kind of each operator with a kernel, and its inputs, None for those that it goes without."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = {getattr(schema.BuiltinOperator, name): name for name in OUTPUT_CHANNEL_AXES}
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = kinds.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            if kind is not None:
                inputs = [None if index < 0 else graph.tensors[index] for index in operator.inputs]
                yield kind, [*inputs, None]


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
