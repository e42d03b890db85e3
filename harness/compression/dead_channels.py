"""Give the biases of dead channels back to a quantized graph.

A channel whose weights are all zero, as pruning leaves some, has no range. The quantizer takes a scale of next to
nothing for it, and the channel's bias, which is counted in that scale, overflows: the channel is then far off instead
of constant. Weights of zero are zero in every scale, so that such a channel can borrow one from its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.tflite.weights import KERNEL_INPUT, OUTPUT_CHANNEL_AXES, float_constants, operators

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
            continue  # one scale a tensor, which a dead channel shares anyway
        by_channel = np.moveaxis(values.view(np.int8).reshape(kernel.ShapeAsNumpy()), channels, 0)
        dead = ~by_channel.reshape(len(by_channel), -1).any(axis=1)
        yield _Layer(bias.Name(), dead, kernel_scales, bias_scales, biases.view(bias_types[bias.Type()]))
