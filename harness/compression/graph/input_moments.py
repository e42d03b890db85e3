"""Measure how the inputs of each layer's weights move together over samples, for rounding that lets errors cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.tflite.flatbuffer import tensor_indices
from harness.tflite.library_types import FlatbufferObject, LiteRtInterpreter

if TYPE_CHECKING:
    from harness.compression.calibration import CalibrationRequest, SampleSets
    from harness.compression.recipe_state import RecipeState

Moments = dict[int, NDArray[np.float64]]
"""By buffer of a layer's kernel, the mean product of each two inputs of a weight: (1, inputs, inputs), or (channels,
inputs, inputs) for depthwise convolutions; inputs in the order of the kernel's own axes."""

Values = NDArray[np.float32]

SAMPLES = 128
"""32 cost int4 of EfficientNet-Lite0 0.5 dB; each costs a run of the float model."""
_POSITIONS = 256
"""Positions of a convolution that are looked at per sample, evenly spread."""
_MOST_INPUTS = 4608
"""3 x 3 x 512: the time to invert grows with the third power, and the matrix has 170 MB."""


def measure_input_moments(
    graph: bytes, samples: SampleSets, progress: Callable[[str, int, int, str], None] | None = None
) -> Moments:
    """Return the moments of every layer that has a kernel of floats, over the first samples of each signature.

    Left out are transposed and grouped convolutions, layers that no sample reached, and those of too many inputs.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    interpreter = Interpreter(model_content=graph, num_threads=1, experimental_preserve_all_tensors=True)
    sums: Moments = {}
    counts: dict[int, int] = {}
    for key, sets in samples.items():
        runner = interpreter.get_signature_runner(key)
        for place, sample in enumerate(sets[:SAMPLES]):
            if progress is not None:
                progress("measuring what weights are multiplied with", min(SAMPLES, len(sets)), place, "")
            interpreter.reset_all_variables()
            runner(**sample)
            for buffer, inputs in _inputs(model, interpreter):
                products = (inputs.swapaxes(1, 2) @ inputs).astype(np.float64)
                sums[buffer] = sums[buffer] + products if buffer in sums else products
                counts[buffer] = counts.get(buffer, 0) + inputs.shape[1]
    return {buffer: total / counts[buffer] for buffer, total in sums.items()}


def moments_by_name(work: RecipeState, graph: bytes, request: CalibrationRequest) -> dict[str, NDArray[np.float64]]:
    """Return the moments by the name of the kernel, see `weights`; none if the model has no data to measure them on.

    The graph has been prepared for the quantizer: all its names differ.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    from harness.compression.calibration import signature_samples

    samples = signature_samples(work.model, graph, request)
    if not samples:
        work.report(note="chosen by the weights alone: the model has no calibration data")
        return {}
    moments = measure_input_moments(graph, samples, work.progress)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(graph))
    tensors = (tensor for subgraph in model.subgraphs for tensor in subgraph.tensors)
    return {tensor.name.decode("utf-8"): moments[tensor.buffer] for tensor in tensors if tensor.buffer in moments}


def _inputs(model: FlatbufferObject, interpreter: LiteRtInterpreter) -> Iterator[tuple[int, Values]]:
    """Yield each layer's kernel and what its weights read in the last run: (1 or channels, positions, inputs)."""
    from ai_edge_litert import schema_py_generated as schema

    readers = {
        schema.BuiltinOperator.FULLY_CONNECTED: _dense_inputs,
        schema.BuiltinOperator.CONV_2D: _convolution_inputs,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D: _depthwise_inputs,
    }
    for place, subgraph in enumerate(model.subgraphs):
        for operator in subgraph.operators:
            reader = readers.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            if reader is None:
                continue
            source, kernel = tensor_indices(operator.inputs)[:2]
            tensor = subgraph.tensors[kernel]
            if tensor.type != schema.TensorType.FLOAT32 or model.buffers[tensor.buffer].data is None:
                continue
            try:
                values = interpreter.get_tensor(source, place)
            except ValueError:  # never computed, such as a branch that was not taken
                continue
            inputs = reader(values, tuple(tensor.shape), operator.builtinOptions)
            if inputs is not None and inputs.shape[2] <= _MOST_INPUTS and np.isfinite(inputs).all():
                yield tensor.buffer, inputs


def _dense_inputs(values: Values, kernel: tuple[int, ...], _: object) -> Values:
    return values.reshape(1, -1, kernel[1])


def _convolution_inputs(values: Values, kernel: tuple[int, ...], options: FlatbufferObject) -> Values | None:
    if values.shape[3] != kernel[3]:  # in groups
        return None
    windows = _windows(values, kernel[1], kernel[2], options)
    return windows.reshape(1, len(windows), -1)


def _depthwise_inputs(values: Values, kernel: tuple[int, ...], options: FlatbufferObject) -> Values:
    windows = _windows(values, kernel[1], kernel[2], options)
    own = np.ascontiguousarray(windows.reshape(len(windows), -1, values.shape[3]).transpose(2, 0, 1))
    multiplier = kernel[3] // values.shape[3]
    return own if multiplier == 1 else np.repeat(own, multiplier, axis=0)


def _windows(values: Values, height: int, width: int, options: FlatbufferObject) -> Values:
    """Return windows of (height, width, channels) at some positions of a convolution, evenly spread over them."""
    from ai_edge_litert import schema_py_generated as schema

    strides = options.strideH, options.strideW
    spacings = options.dilationHFactor, options.dilationWFactor
    reaches = [(size - 1) * spacing + 1 for size, spacing in zip((height, width), spacings, strict=True)]
    if options.padding == schema.Padding.SAME:
        pairs = zip(values.shape[1:3], strides, reaches, strict=True)
        missing = [max(0, (-(-size // stride) - 1) * stride + reach - size) for size, stride, reach in pairs]
        values = np.pad(values, [(0, 0), *((count // 2, count - count // 2) for count in missing), (0, 0)])
    views = np.lib.stride_tricks.sliding_window_view(values, reaches, axis=(1, 2))
    views = views[:, :: strides[0], :: strides[1], :, :: spacings[0], :: spacings[1]]
    count = views.shape[0] * views.shape[1] * views.shape[2]
    chosen = np.unique(np.linspace(0, count - 1, min(count, _POSITIONS)).round().astype(int))
    return np.asarray(views[np.unravel_index(chosen, views.shape[:3])]).transpose(0, 2, 3, 1)
