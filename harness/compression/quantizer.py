"""The one door to litert-quantizer, which has been renamed and moved before.

Every function takes a float graph's content and returns the quantized one's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.compression.dead_channels import repair_dead_channels

if TYPE_CHECKING:
    from harness.compression.calibration import Sample

SIGNATURE = "serving_default"
PER_CHANNEL_DENSE_VERSION = 12
"""The FULLY_CONNECTED version from which a runtime reads one scale a channel while activations are float."""

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


def to_fp16(graph: bytes) -> bytes:
    """Store the weights as float16; a DEQUANTIZE before each use, which delegates fold away."""
    from litert_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT
    )
    recipe = _new_recipe()
    names = qtyping.TFLOperationName
    for operation in (names.FULLY_CONNECTED, names.CONV_2D, names.DEPTHWISE_CONV_2D, names.CONV_2D_TRANSPOSE):
        recipe.add_quantization_config(_EVERY_NAME, operation, config, algorithm_key="float_casting")
    return _quantize(graph, recipe)


def to_dynamic_int8(graph: bytes, *, newest_kernels: bool) -> bytes:
    """Store the weights as int8; activations stay float and are quantized while running.

    Without `newest_kernels`, two operators are left as runtimes like TensorFlow Lite 2.14.1 compute them rightly:
    FULLY_CONNECTED gets one scale a tensor, since before version 12 of it the first channel's scale is silently taken
    for all; TRANSPOSE_CONV turns its weights back into float first, since it refuses int8 weights on float inputs.
    """
    from litert_quantizer import qtyping

    names = qtyping.TFLOperationName
    recipe = _new_recipe()
    recipe.add_dynamic_config(_EVERY_NAME, names.ALL_SUPPORTED, 8)
    if newest_kernels:
        return _stamp_per_channel_dense(_quantize(graph, recipe))
    recipe.add_dynamic_config(_EVERY_NAME, names.FULLY_CONNECTED, 8, qtyping.QuantGranularity.TENSORWISE)
    recipe.add_weight_only_config(_EVERY_NAME, names.CONV_2D_TRANSPOSE, 8)
    return _quantize(graph, recipe)


def to_static_int8(graph: bytes, samples: list[Sample], *, float_io: bool, extremes: bool) -> bytes:
    """Store weights and activations as int8, with ranges from `samples`; see `ensure_signature`.

    A range is the moving average of each sample's smallest and largest value, or with `extremes` those of all samples.
    """
    from litert_quantizer import qtyping

    recipe = _new_recipe()
    names = qtyping.TFLOperationName
    recipe.add_static_config(_EVERY_NAME, names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if float_io:
        for end in (names.INPUT, names.OUTPUT):
            recipe.add_quantization_config(_EVERY_NAME, end, algorithm_key="no_quantize")
    quantized = _quantize(graph, recipe, _ranges(graph, recipe, samples, extremes))
    return repair_dead_channels(quantized, graph)


def _new_recipe() -> Any:  # noqa: ANN401 - the library has no types
    from litert_quantizer import recipe_manager

    return recipe_manager.RecipeManager()


def _quantize(graph: bytes, recipe: Any, ranges: Any = None) -> bytes:  # noqa: ANN401 - as above
    from litert_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(graph), recipe.get_quantization_recipe())
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _ranges(graph: bytes, recipe: Any, samples: list[Sample], extremes: bool) -> Any:  # noqa: ANN401 - as above
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.utils import qsv_utils

    update = {"qsv_update_func": qsv_utils.min_max_update} if extremes else {}
    calibrator = Calibrator(bytearray(graph), num_threads=1, **update)
    calibrator.calibrate({_signature_of(graph): samples}, recipe)
    return {name: _widened(found) for name, found in calibrator.get_model_qsvs().items()}


def _widened(found: dict[str, Any]) -> dict[str, Any]:
    """Return a tensor's statistics with a range of at least `SMALLEST_RANGE`."""
    if not {"min", "max"} <= found.keys():
        return found
    return {**found, "max": np.maximum(found["max"], found["min"] + SMALLEST_RANGE)}


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


def _named_tensor(graph: Any, index: int) -> Any:  # noqa: ANN401 - generated code has no types
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.TensorMapT()
    entry.name = graph.tensors[index].name
    entry.tensorIndex = index
    return entry
