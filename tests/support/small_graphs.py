"""A small float graph, written with the schema alone: its tests need no TensorFlow."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.compression.graph import quantizer
from harness.compression.graph.ranges import Ranges, measure_ranges
from harness.tflite.flatbuffer import signature_keys

INPUT_SIZE = 16
OUTPUT_SIZE = 4


def dense_graph(
    *, custom_operator: str | None = None, version: int = 1, weights: NDArray[np.float32] | None = None
) -> bytes:
    """Return a .tflite of one dense layer, [1, 16] to [1, 4], or of one custom operator in its place.

    Weights of one's own, [outputs, inputs], set these sizes.
    """
    if weights is None:
        random = np.random.default_rng(3)
        weights = random.normal(size=(OUTPUT_SIZE, INPUT_SIZE)).astype("<f4")
        # Rows of very different size: one scale for all of them, or a wrong scale, shows in the outputs.
        weights *= np.logspace(-1, 1, OUTPUT_SIZE, dtype="<f4")[:, None]
    outputs, inputs = weights.shape
    code = schema.OperatorCodeT()
    number = schema.BuiltinOperator.CUSTOM if custom_operator else schema.BuiltinOperator.FULLY_CONNECTED
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.customCode = custom_operator
    code.version = version
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    if not custom_operator:
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("in", [1, inputs], 0),
        _tensor("weights", list(weights.shape), 1),
        _tensor("out", [1, outputs], 0),
    ]
    graph.inputs, graph.outputs, graph.operators, graph.name = [0], [2], [operator], "main"
    constant = schema.BufferT()
    constant.data = np.frombuffer(weights.tobytes(), np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), constant]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: list[int], buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, buffer, schema.TensorType.FLOAT32
    return tensor


def static_ranges(graph: bytes, samples: list[dict[str, Any]]) -> Ranges:
    """Return the extremes of a float graph's activations over samples."""
    (signature,) = signature_keys(graph)
    return measure_ranges(graph, {signature: samples})["extremes"]


def static_int8(graph: bytes, samples: list[dict[str, Any]]) -> bytes:
    """Return a float graph in int8, calibrated on the extremes of samples; inputs and outputs stay float."""
    ranges = static_ranges(graph, samples)
    return quantizer.quantize(graph, [quantizer.FormatRule("int8", "int8")], ranges=ranges)
