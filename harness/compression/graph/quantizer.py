"""The one door to litert-quantizer, which has been renamed and moved before.

Graphs are the content of `.tflite` files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.compression.graph.half_precision import store_float16
from harness.compression.graph.input_moments import Moments
from harness.compression.graph.ranges import Ranges
from harness.compression.weights.rounding import KnownCodes, ScaleRule, regrid
from harness.tflite.flatbuffer import inner_scopes, operator_name, operator_scopes, tensor_indices
from harness.tflite.library_types import FlatbufferObject, QuantizerRecipe
from harness.tflite.weights import unique_name

SIGNATURE = "serving_default"
PER_CHANNEL_DENSE_VERSION = 12
"""The FULLY_CONNECTED version from which a runtime reads one scale per channel while activations are float."""

_EVERY_NAME = "(?:.*)"
"""Unlike the pattern of any rule: the quantizer keeps patterns in the order in which it first saw them."""

_NOT_IN_2_14 = {
    "int8": ("DIV", "SQRT"),
    "int16": ("DIV", "DYNAMIC_UPDATE_SLICE", "GELU", "NOT_EQUAL", "RSQRT", "SQRT", "SUM", "TRANSPOSE"),
}
"""By activations, the operators whose integer form TensorFlow Lite 2.14.1 refuses, whatever version the file names.

Its XNNPACK delegate takes a TRANSPOSE in int16, then fails on the tensor's type and with it the whole file.
"""
_PRODUCT_AXES = 4
"""TensorFlow Lite 2.14.1 aborts on a product of int16 tensors of different shapes with more axes."""


def prepare(graph: bytes) -> bytes:
    """Return the graph with what the quantizer needs: a signature, and a name of its own for every tensor.

    Old files have no signature, and those of some tools use a name twice or leave it out.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    is_changed = _name_apart(model)
    if not model.signatureDefs:
        main = model.subgraphs[0]
        signature = schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.subgraphIndex = 0
        signature.inputs = [_named_tensor(main, index) for index in main.inputs]
        signature.outputs = [_named_tensor(main, index) for index in main.outputs]
        model.signatureDefs = [signature]
        is_changed = True
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if is_changed else graph


def _name_apart(model: FlatbufferObject) -> bool:
    """Give the tensors of equal names a number each but the first. Return False if there are none."""
    taken: set[str] = set()
    is_changed = False
    for subgraph in model.subgraphs:
        for index, tensor in enumerate(subgraph.tensors):
            name = (tensor.name or b"").decode("utf-8", "replace")
            apart = unique_name(name or f"tensor {index}", taken)
            if apart != name:
                tensor.name = apart
                is_changed = True
    return is_changed


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
    scale: ScaleRule = "largest",
    int4_bits: int = 4,
    moments: Moments | None = None,
    known: KnownCodes | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> bytes:
    """Quantize a float graph by rules; int8 and int16 activations need `ranges`, see `measure_ranges`.

    `scale`, `int4_bits`, `moments` and `known` choose the grids of the weights and their codes, see `regrid`, which
    tells `progress` of them; every integer bias fits.

    Operators that cannot have a format get the nearest: depthwise convolutions int8 weights for int4. Without
    `newest_kernels` so do dense layers with integer activations, for which TensorFlow Lite 2.14.1 refuses int4, and
    convolutions with float activations, which it computes wrongly in silence.

    Without `newest_kernels`, operators that TensorFlow Lite 2.14.1 does not compute in integers stay float, between a
    DEQUANTIZE and a QUANTIZE.

    Without `newest_kernels`, two operators with float activations are left as runtimes like TensorFlow Lite 2.14.1
    compute them rightly: FULLY_CONNECTED gets one scale per tensor, since before version 12 of it the first channel's
    scale is silently taken for all; TRANSPOSE_CONV turns its weights back into float first, since it refuses int8
    weights on float inputs.
    """
    recipe = _new_recipe()
    for rule in rules:
        _add_rule(recipe, rule, newest_kernels)
    if not newest_kernels and any(rule.activations == "int16" for rule in rules) and (wide := _wide_products(graph)):
        _leave_float(recipe, _exactly(wide), "MUL")
    static = any(rule.activations != "float" for rule in rules)
    if float_io and static:
        _leave_float(recipe, _EVERY_NAME, "INPUT", "OUTPUT")
    if static and (inside := inner_scopes(graph)):
        # The quantizer changes the type of a loop's outputs but not that of the inputs which they become.
        _leave_float(recipe, _exactly(inside), "ALL_SUPPORTED")
    quantized = graph if all(rule.weights == "fp16" for rule in rules) else _run(graph, recipe, ranges)
    if any(rule.activations == "int16" for rule in rules):
        quantized = _with_any_scale(quantized)
    if static or moments or scale != "largest" or any(rule.weights == "int4" for rule in rules):
        quantized = regrid(
            quantized, graph, int4_bits=int4_bits, rule=scale, moments=moments, known=known, progress=progress
        )
    if any(rule.weights == "fp16" for rule in rules):

        def is_half(scope: str) -> bool:
            return next(rule.weights for rule in reversed(rules) if re.search(rule.match, scope)) == "fp16"

        quantized = store_float16(quantized, is_half)
    return _stamp_per_channel_dense(quantized) if newest_kernels and not static else quantized


def _add_rule(recipe: QuantizerRecipe, rule: FormatRule, newest_kernels: bool) -> None:
    from litert_quantizer import qtyping

    names = qtyping.TFLOperationName
    if rule.weights in ("float", "fp16"):
        _leave_float(recipe, rule.match, "ALL_SUPPORTED")
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
        if not newest_kernels:
            _leave_float(recipe, rule.match, *_NOT_IN_2_14[rule.activations])


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


def _leave_float(recipe: QuantizerRecipe, match: str, *operations: str) -> None:
    from litert_quantizer import qtyping

    for operation in operations:
        recipe.add_quantization_config(match, qtyping.TFLOperationName[operation], algorithm_key="no_quantize")


def _exactly(scopes: Sequence[str]) -> str:
    """Return a regular expression that matches these scopes alone."""
    return f"^(?:{'|'.join(map(re.escape, scopes))})$"


def _wide_products(graph: bytes) -> list[str]:
    """Return the scopes of the main graph's products that stretch one factor over more than `_PRODUCT_AXES` axes."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(graph, 0)
    main = model.Subgraphs(0)
    found = []
    for place, scope in enumerate(operator_scopes(graph)):
        node = main.Operators(place)
        if operator_name(model, node.OpcodeIndex()) == "MUL":
            shapes = [main.Tensors(node.Inputs(side)).ShapeAsNumpy() for side in (0, 1)]
            if max(map(np.size, shapes)) > _PRODUCT_AXES and not np.array_equal(*shapes):
                found.append(scope)
    return found


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
    return _consistent(bytes(result.quantized_model), graph)


def _with_any_scale(graph: bytes) -> bytes:
    """Return an int16 graph whose sums and differences do not demand powers of two.

    The schema's default does: where all three scales happen to be one, as 1/32768 is, the kernel wants more of them
    (`input2_shift <= 0 was not true`).
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    names = ("ADD", "AddOptions"), ("SUB", "SubOptions")
    kinds = {getattr(schema.BuiltinOperator, operator): options for operator, options in names}
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    for subgraph in model.subgraphs:
        for node in subgraph.operators:
            options = kinds.get(model.operatorCodes[node.opcodeIndex].builtinCode)
            if options and subgraph.tensors[node.outputs[0]].type == schema.TensorType.INT16:
                if node.builtinOptions is None:
                    node.builtinOptions = getattr(schema, f"{options}T")()
                    node.builtinOptionsType = getattr(schema.BuiltinOptions, options)
                node.builtinOptions.potScaleInt16 = False
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _consistent(quantized: bytes, graph: bytes) -> bytes:
    """Return the quantized graph with what litert-quantizer forgets.

    It leaves a signature at the integer tensor if another operator reads the output as float too, and it leaves an
    output of SPLIT that nothing reads in float.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model, floats = (flatbuffer_utils.read_model_from_bytearray(bytearray(content)) for content in (quantized, graph))
    is_changed = False
    for signature, original in zip(model.signatureDefs or (), floats.signatureDefs or (), strict=True):
        places = list(floats.subgraphs[original.subgraphIndex].outputs)
        outputs = model.subgraphs[signature.subgraphIndex].outputs
        for entry, before in zip(signature.outputs, original.outputs, strict=True):
            place = outputs[places.index(before.tensorIndex)]
            is_changed |= entry.tensorIndex != place
            entry.tensorIndex = place
    for subgraph in model.subgraphs:
        read = {index for operator in subgraph.operators for index in tensor_indices(operator.inputs)}
        read.update(tensor_indices(subgraph.outputs))
        for operator in subgraph.operators:
            written = [(index, subgraph.tensors[index]) for index in tensor_indices(operator.outputs)]
            used = [tensor for index, tensor in written if index in read and _has_scale(tensor)]
            for index, tensor in written:
                if used and index not in read and tensor.type == schema.TensorType.FLOAT32:
                    tensor.type, tensor.quantization = used[0].type, used[0].quantization
                    is_changed = True
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if is_changed else quantized


def _has_scale(tensor: FlatbufferObject) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


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
