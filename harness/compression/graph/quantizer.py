"""The one door to litert-quantizer, which has been renamed and moved before.

Graphs are the content of `.tflite` files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.tflite.library_types import FlatbufferObject, QuantizerRecipe
from harness.tflite.weights import KERNEL_INPUT, OUTPUT_CHANNEL_AXES, float_constants, operators

if TYPE_CHECKING:
    from harness.compression.calibration import Sample


Ranges = dict[str, dict[str, NDArray[Any]]]
"""Smallest and largest value (`min`, `max`) of each tensor, by its name."""

if TYPE_CHECKING:
    from harness.compression.calibration import Sample

SIGNATURE = "serving_default"
PER_CHANNEL_DENSE_VERSION = 12
"""The FULLY_CONNECTED version from which a runtime reads one scale per channel while activations are float."""

SMALLEST_RANGE = 1e-5
"""Activations of untrained networks fade to nothing; a scale fitted to that overflows the runtime's limit of ReLU6
(`no_integer_overflow_from_quantization was not true` in TensorFlow Lite 2.14.1)."""

_EVERY_NAME = ".*"


def ensure_signature(graph: bytes) -> bytes:
    """Return the graph with a signature, which the quantizer calibrates through; older files have none."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    if model.signatureDefs:
        return graph
    main = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = [_named_tensor(main, index) for index in main.inputs]
    signature.outputs = [_named_tensor(main, index) for index in main.outputs]
    model.signatureDefs = [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@dataclass(frozen=True)
class FormatRule:
    """The number formats of the operators whose scope matches; a later rule overrides an earlier one."""

    weights: Literal["float", "fp16", "int8", "int4"]
    activations: Literal["float", "int8", "int16"] = "float"
    granularity: Literal["channel", "tensor", "block-32", "block-64", "block-128", "block-256"] = "channel"
    """One scale per channel, a tensor, or a block of weights (dense layers with int4 weights alone)."""
    match: str = ".*"
    """A regular expression, searched in the names of the tensors that an operator writes."""


def quantize(
    graph: bytes,
    rules: Sequence[FormatRule],
    *,
    ranges: Ranges | None = None,
    float_io: bool = True,
    newest_kernels: bool = False,
) -> bytes:
    """Quantize a float graph by rules; int8 and int16 activations need `ranges`, see `calibrate`.

    Operators that cannot have a format get the nearest: depthwise convolutions int8 weights for int4. Without
    `newest_kernels` so do dense layers with integer activations, for which TensorFlow Lite 2.14.1 refuses int4, and
    convolutions with float activations, which it computes wrongly in silence.

    Without `newest_kernels`, two operators with float activations are left as runtimes like TensorFlow Lite 2.14.1
    compute them rightly: FULLY_CONNECTED gets one scale per tensor, since before version 12 of it the first channel's
    scale is silently taken for all; TRANSPOSE_CONV turns its weights back into float first, since it refuses int8
    weights on float inputs.
    """
    recipe = _new_recipe()
    for rule in rules:
        _add_rule(recipe, rule, newest_kernels)
    static = any(rule.activations != "float" for rule in rules)
    if float_io and static:
        _leave_float(recipe, _EVERY_NAME, "INPUT", "OUTPUT")
    quantized = _run(graph, recipe, ranges)
    if static:
        return repair_dead_channels(quantized, graph)
    return _stamp_per_channel_dense(quantized) if newest_kernels else quantized


def calibrate(graph: bytes, samples: list[Sample], *, extremes: bool) -> Ranges:
    """Return every tensor's range over samples, which serves any static recipe; see `ensure_signature`.

    A range is the moving average of each sample's smallest and largest value, or with `extremes` those of all samples.
    """
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.utils import qsv_utils

    recipe = _new_recipe()
    _add_rule(recipe, FormatRule("int8", "int8"), newest_kernels=False)
    update = {"qsv_update_func": qsv_utils.min_max_update} if extremes else {}
    calibrator = Calibrator(bytearray(graph), num_threads=1, **update)
    calibrator.calibrate({_signature_of(graph): samples}, recipe)
    return {
        name: _widened(found) for name, found in calibrator.get_model_qsvs().items() if {"min", "max"} <= found.keys()
    }


def _add_rule(recipe: QuantizerRecipe, rule: FormatRule, newest_kernels: bool) -> None:
    from litert_quantizer import qtyping

    names = qtyping.TFLOperationName
    if rule.weights == "float":
        _leave_float(recipe, rule.match, "ALL_SUPPORTED")
    elif rule.weights == "fp16":
        _add_fp16(recipe, rule.match)
    elif rule.activations == "float":
        _add_dynamic(recipe, rule, newest_kernels)
    else:
        bits = 8 if rule.activations == "int8" else 16
        grain = _granularity(rule)
        recipe.add_static_config(rule.match, names.ALL_SUPPORTED, bits, 8, grain)
        if rule.weights == "int4":
            recipe.add_static_config(rule.match, names.CONV_2D, bits, 4, grain)
            if newest_kernels:
                recipe.add_static_config(rule.match, names.FULLY_CONNECTED, bits, 4, grain)


def _add_dynamic(recipe: QuantizerRecipe, rule: FormatRule, newest_kernels: bool) -> None:
    from litert_quantizer import qtyping

    names, grains = qtyping.TFLOperationName, qtyping.QuantGranularity
    whole = grains.TENSORWISE if rule.granularity == "tensor" else grains.CHANNELWISE
    recipe.add_dynamic_config(rule.match, names.ALL_SUPPORTED, 8, whole)
    dense = _granularity(rule) if newest_kernels else grains.TENSORWISE
    if rule.weights == "int4":
        if newest_kernels:
            recipe.add_dynamic_config(rule.match, names.CONV_2D, 4, whole)
        recipe.add_dynamic_config(rule.match, names.FULLY_CONNECTED, 4, dense)
    elif not newest_kernels:
        recipe.add_dynamic_config(rule.match, names.FULLY_CONNECTED, 8, dense)
    if not newest_kernels:
        recipe.add_weight_only_config(rule.match, names.CONV_2D_TRANSPOSE, 8)


def _add_fp16(recipe: QuantizerRecipe, match: str) -> None:
    """Store the weights as float16; a DEQUANTIZE before each use, which delegates fold away."""
    from litert_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT
    )
    names = qtyping.TFLOperationName
    for operation in (names.FULLY_CONNECTED, names.CONV_2D, names.DEPTHWISE_CONV_2D, names.CONV_2D_TRANSPOSE):
        recipe.add_quantization_config(match, operation, config, algorithm_key="float_casting")


def _leave_float(recipe: QuantizerRecipe, match: str, *operations: str) -> None:
    from litert_quantizer import qtyping

    for operation in operations:
        recipe.add_quantization_config(match, qtyping.TFLOperationName[operation], algorithm_key="no_quantize")


def _granularity(rule: FormatRule) -> QuantizerRecipe:
    from litert_quantizer import qtyping

    names = {"channel": "CHANNELWISE", "tensor": "TENSORWISE"}
    return qtyping.QuantGranularity(names.get(rule.granularity, rule.granularity.upper().replace("-", "WISE_")))


def _new_recipe() -> QuantizerRecipe:
    from litert_quantizer import recipe_manager

    return recipe_manager.RecipeManager()


def _run(graph: bytes, recipe: QuantizerRecipe, ranges: Ranges | None) -> bytes:
    from litert_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(graph), recipe.get_quantization_recipe())
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _widened(found: dict[str, Any]) -> dict[str, Any]:
    """Return a tensor's statistics with a range of at least `SMALLEST_RANGE`."""
    return {"min": np.asarray(found["min"]), "max": np.maximum(found["max"], found["min"] + SMALLEST_RANGE)}


def _signature_of(graph: bytes) -> str:
    from ai_edge_litert.interpreter import Interpreter

    return str(next(iter(Interpreter(model_content=graph).get_signature_list())))


def _stamp_per_channel_dense(graph: bytes) -> bytes:
    """Raise the version of FULLY_CONNECTED, which the quantizer leaves at 1, so that older runtimes refuse the file."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            code.version = max(code.version, PER_CHANNEL_DENSE_VERSION)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _named_tensor(graph: FlatbufferObject, index: int) -> FlatbufferObject:
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name = graph.tensors[index].name
    entry.tensorIndex = index
    return entry


BIAS_TYPES = {"INT32": "<i4", "INT64": "<i8"}
FALLBACK_SCALE = 1.0
"""For a layer without any weight that is not zero."""


@dataclass(frozen=True)
class _Layer:
    """One quantized layer with a bias; the arrays are views into the file."""

    bias_name: bytes
    dead: NDArray[np.bool_]
    """By output channel: whether all its weights are zero."""

    kernel_scales: NDArray[np.float32]
    bias_scales: NDArray[np.float32]
    biases: NDArray[Any]


def repair_dead_channels(quantized: bytes, float_graph: bytes) -> bytes:
    """Return the quantized graph with right biases for the channels without weights.

    `float_graph` is what it was quantized from: it has the biases, under the same names. Nothing else changes.
    """
    content = bytearray(quantized)
    wanted = float_constants(float_graph)
    for layer in _layers(content):
        dead = layer.dead
        if not dead.any() or layer.bias_name not in wanted:
            continue
        input_scale = float(layer.bias_scales[0]) / float(layer.kernel_scales[0])
        layer.kernel_scales[dead] = layer.kernel_scales[~dead].max(initial=0) or FALLBACK_SCALE
        layer.bias_scales[dead] = layer.kernel_scales[dead] * input_scale
        limits = np.iinfo(layer.biases.dtype)
        counts = np.rint(wanted[layer.bias_name][dead] / layer.bias_scales[dead].astype(np.float64))
        layer.biases[dead] = np.clip(counts, limits.min, limits.max)
    return bytes(content)


def _layers(content: bytearray) -> Iterator[_Layer]:
    from ai_edge_litert import schema_py_generated as schema

    bias_types = {getattr(schema.TensorType, name): kind for name, kind in BIAS_TYPES.items()}
    for model, graph, name, node in operators(content):
        if name not in OUTPUT_CHANNEL_AXES or node.Inputs(node.InputsLength() - 1) < 0:
            continue
        kernel, bias = graph.Tensors(node.Inputs(KERNEL_INPUT)), graph.Tensors(node.Inputs(node.InputsLength() - 1))
        if kernel.Type() != schema.TensorType.INT8 or bias.Type() not in bias_types:
            continue
        buffers = [model.Buffers(tensor.Buffer()) for tensor in (kernel, bias)]
        if not all(buffer.DataLength() for buffer in buffers):
            continue  # computed, not constant
        values, biases = (buffer.DataAsNumpy() for buffer in buffers)
        kernel_scales, bias_scales = (tensor.Quantization().ScaleAsNumpy() for tensor in (kernel, bias))
        channels = OUTPUT_CHANNEL_AXES[name]
        if len(kernel_scales) != kernel.Shape(channels) or len(bias_scales) != len(kernel_scales):
            continue  # one scale per tensor, which a dead channel shares anyway
        by_channel = np.moveaxis(values.view(np.int8).reshape(kernel.ShapeAsNumpy()), channels, 0)
        dead = ~by_channel.reshape(len(by_channel), -1).any(axis=1)
        yield _Layer(bias.Name(), dead, kernel_scales, bias_scales, biases.view(bias_types[bias.Type()]))


def ranges_file(folder: Path, graph: bytes, samples: list[Sample], kind: str) -> Path:
    """Return the file of a graph's ranges over samples: its name is a hash of all that decides them."""
    digest = hashlib.sha256(graph)
    digest.update(kind.encode())
    for sample in samples:
        for name, values in sample.items():
            digest.update(name.encode() + repr(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return folder / f"{digest.hexdigest()}.json"


def read_ranges(file: Path) -> Ranges | None:
    """Return the ranges in a file, None if there is none."""
    if not file.is_file():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: {end: np.array(values, np.float32) for end, values in found.items()} for name, found in stored.items()
    }


def write_ranges(file: Path, ranges: Ranges) -> None:
    """Write ranges, all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {name: {end: values.tolist() for end, values in found.items()} for name, found in ranges.items()}
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(file)
