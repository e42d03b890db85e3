"""Which operators of a quantized graph add noise to its outputs: found in one run of it next to the float graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.compression.graph.activations import activations, tensor_name
from harness.tflite.flatbuffer import operator_scope
from harness.tflite.library_types import FlatbufferObject, LiteRtInterpreter

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets

SAMPLES = 8
"""Enough to rank operators, each of which writes many values per sample."""
_SMALLEST_POWER = 1e-30


def added_noise(floats: bytes, made: bytes, samples: SampleSets) -> dict[str, float]:
    """Return the noise that each operator of the float graph adds in the quantized one, by its scope.

    It is the power of the noise over that of the signal in what the operator writes, less the most in what it reads;
    never below 0, since an operator can also average noise away. Inner graphs (loops and branches) are left out.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(floats, 0)
    noise = _noise(model, floats, made, samples)
    added: dict[str, float] = {}
    for place in range(model.SubgraphsLength()):
        graph = model.Subgraphs(place)
        for node in (graph.Operators(index) for index in range(graph.OperatorsLength())):
            read = [node.Inputs(index) for index in range(node.InputsLength())]
            written = [node.Outputs(index) for index in range(node.OutputsLength())]
            before, after = (
                max((noise.get(tensor_name(graph.Tensors(index)), 0.0) for index in side if index >= 0), default=0.0)
                for side in (read, written)
            )
            added[operator_scope(graph, node)] = max(0.0, after - before)
    return added


def _noise(model: FlatbufferObject, floats: bytes, made: bytes, samples: SampleSets) -> dict[str, float]:
    """Return the power of the noise over that of the signal for each tensor that both graphs compute, by its name."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    pair = [
        (
            schema.Model.GetRootAs(content, 0),
            Interpreter(
                model_content=content,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            ),
        )
        for content in (floats, made)
    ]
    powers: dict[str, NDArray[np.float64]] = {}
    for key, sets in samples.items():
        runners = [interpreter.get_signature_runner(key) for _, interpreter in pair]
        for sample in sets[:SAMPLES]:
            for (_, interpreter), runner in zip(pair, runners, strict=True):
                interpreter.reset_all_variables()
                runner(**sample)
            exact, found = (dict(_real_values(*one)) for one in pair)
            for name in exact.keys() & found.keys():
                if exact[name].shape == found[name].shape:
                    sums = np.array([np.square(found[name] - exact[name]).sum(), np.square(exact[name]).sum()])
                    powers[name] = powers.get(name, np.zeros(2)) + sums
    return {name: float(error / max(signal, _SMALLEST_POWER)) for name, (error, signal) in powers.items()}


def _real_values(model: FlatbufferObject, interpreter: LiteRtInterpreter) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the values that tensors stand for, by name, of those that are float or have a scale."""
    for tensor, values in activations(model, interpreter):
        quantization = tensor.Quantization()
        if values.dtype.kind == "f":
            yield tensor_name(tensor), values.astype(np.float64)
        elif quantization is not None and quantization.ScaleLength() == 1:
            zero_point = quantization.ZeroPoint(0) if quantization.ZeroPointLength() else 0
            yield tensor_name(tensor), (values.astype(np.float64) - zero_point) * quantization.Scale(0)
