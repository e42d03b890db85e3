"""A differentiable copy of a `.tflite` graph, for its gradient: what an attacker who has the file would build.

Weights are the file's own, turned back into real numbers; what flows through quantized tensors is rounded as the file
says, and the gradient passes straight through the rounding (Bengio et al. 2013), but not where a value is cut off.
Needs TensorFlow, so it is loaded in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.task import Labels
from harness.tflite.flatbuffer import read_graph
from harness.tflite.library_types import FlatbufferObject
from harness.tflite.tensors import FloatArray

BATCH = 100
_ABSENT = -1

Tensor = Any
"""TensorFlow has no types."""


class NoGradientError(Exception):
    """The graph holds what has no differentiable copy here; `str()` names it."""


_Grid = tuple[float, int, int, int]
"""Scale, zero point, smallest and largest value of a quantized tensor."""


@dataclass(frozen=True)
class _Node:
    operator: str
    options: Any
    inputs: list[int]
    outputs: list[int]


class Surrogate:
    """One graph with one input, and class scores as the output at the place `scored` of its signature."""

    def __init__(self, path: Path, scored: int = 0) -> None:
        """Read a file. Raises `NoGradientError`."""
        from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model(str(path))
        graph = model.subgraphs[0]
        self._shapes = [tuple(map(int, tensor.shape)) if tensor.shape is not None else () for tensor in graph.tensors]
        place = read_graph(path.read_bytes(), name=str(path)).outputs[scored].file_place
        self._input, self._output = int(graph.inputs[0]), int(graph.outputs[scored if place is None else place])
        if len(graph.inputs) != 1:
            raise NoGradientError(f"it takes {len(graph.inputs)} inputs")
        self._constants, self._ranges, flowing = _read_tensors(path)
        nodes = [_node(model, operator) for operator in graph.operators]
        self._nodes = [node for node in nodes if flowing.intersection(node.inputs)]
        unknown = {node.operator for node in self._nodes} - _OPERATORS.keys()
        if unknown:
            raise NoGradientError(f"it holds {', '.join(sorted(unknown))}")
        self._logits = self._before_softmax()

    def _before_softmax(self) -> int:
        """Return the tensor that becomes probabilities: a loss of those that are 0 or 1 has no gradient any more."""
        writers = {node.outputs[0]: node for node in self._nodes}
        tensor = self._output
        while (node := writers.get(tensor)) and node.operator in ("DEQUANTIZE", "QUANTIZE", "RESHAPE"):
            tensor = node.inputs[0]
        last = "LOGISTIC" if prod(self._shapes[self._output]) == 1 else "SOFTMAX"
        return node.inputs[0] if node and node.operator == last else self._output

    def logits(self, inputs: FloatArray) -> FloatArray:
        """Return what goes into the softmax, (samples, classes)."""
        chunks = [self._forward(inputs[start : start + BATCH]).numpy() for start in range(0, len(inputs), BATCH)]
        return np.concatenate(chunks)

    def gradient(self, inputs: FloatArray, labels: Labels) -> FloatArray:
        """Return the gradient of each sample's cross-entropy in its inputs."""
        import tensorflow as tf

        chunks = []
        for start in range(0, len(inputs), BATCH):
            part = tf.constant(inputs[start : start + BATCH])
            with tf.GradientTape() as tape:
                tape.watch(part)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels[start : start + BATCH], self._forward(part)
                )
            chunks.append(tape.gradient(losses, part).numpy())
        return np.concatenate(chunks)

    def _forward(self, inputs: Tensor) -> Tensor:
        import tensorflow as tf

        values: dict[int, Tensor] = dict(self._constants)
        values[self._input] = self._rounded(self._input, tf.convert_to_tensor(inputs))
        for node in self._nodes:
            given = [None if index == _ABSENT else values[index] for index in node.inputs]
            found = _OPERATORS[node.operator](given, node.options, self._shapes[node.outputs[0]])
            values[node.outputs[0]] = self._rounded(node.outputs[0], found)
        scores = tf.reshape(values[self._logits], [tf.shape(values[self._logits])[0], -1])
        return tf.concat([tf.zeros_like(scores), scores], axis=1) if scores.shape[1] == 1 else scores

    def _rounded(self, tensor: int, values: Tensor) -> Tensor:
        import tensorflow as tf

        if tensor not in self._ranges:
            return values
        scale, zero_point, low, high = self._ranges[tensor]
        kept = tf.clip_by_value(values, (low - zero_point) * scale, (high - zero_point) * scale)
        return kept + tf.stop_gradient(tf.round(kept / scale) * scale - kept)


def _node(model: FlatbufferObject, operator: FlatbufferObject) -> _Node:
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = next((name for name, known in vars(schema.BuiltinOperator).items() if known == number), f"BUILTIN_{number}")
    return _Node(name, operator.builtinOptions, list(map(int, operator.inputs)), list(map(int, operator.outputs)))


def _read_tensors(path: Path) -> tuple[dict[int, NDArray[Any]], dict[int, _Grid], set[int]]:
    """Return constants as real numbers, the grids of quantized tensors, and which tensors depend on the input.

    The runtime itself unpacks constants that are sparse, in half precision or in four bits.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from harness.tflite.inner_tensors import computed

    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    operators = interpreter._get_ops_details()
    flowing = computed(operators, inputs) | set(inputs)
    live = [operator["inputs"] for operator in operators if flowing.intersection(operator["inputs"])]
    used = {int(index) for inputs_of_one in live for index in inputs_of_one if index >= 0}
    constants, ranges = {}, {}
    for detail in interpreter.get_tensor_details():
        index, scales = int(detail["index"]), detail["quantization_parameters"]["scales"]
        if index not in flowing and index in used:
            constants[index] = _real(interpreter.get_tensor(index), detail["quantization_parameters"])
        elif index in flowing and len(scales) == 1 and np.dtype(detail["dtype"]).kind in "iu":
            limits = np.iinfo(detail["dtype"])
            zero_point = int(detail["quantization_parameters"]["zero_points"][0])
            ranges[index] = (float(scales[0]), zero_point, int(limits.min), int(limits.max))
    return constants, ranges, flowing


def _real(values: NDArray[Any], quantization: dict[str, Any]) -> NDArray[Any]:
    scales, zero_points, axis = (quantization[key] for key in ("scales", "zero_points", "quantized_dimension"))
    if not len(scales):
        return values.astype(np.float32) if values.dtype.kind == "f" else values
    shape = [len(scales) if place == axis else 1 for place in range(values.ndim)] if len(scales) > 1 else [1]
    exact = (values.astype(np.float64) - np.reshape(zero_points, shape)) * np.reshape(scales, shape)
    return np.asarray(exact, np.float32)


# -- one function an operator: inputs, the options in the file, and the shape of the output for one sample --

Given = list[Any]
_Operator = Callable[[Given, Any, tuple[int, ...]], Tensor]
_PADDING = {0: "SAME", 1: "VALID"}


def _activated(values: Tensor, options: FlatbufferObject) -> Tensor:
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema

    kind = schema.ActivationFunctionType
    known: dict[int, Callable[[Tensor], Tensor]] = {
        kind.NONE: tf.identity,
        kind.RELU: tf.nn.relu,
        kind.RELU6: tf.nn.relu6,
        kind.TANH: tf.tanh,
        kind.RELU_N1_TO_1: lambda inside: tf.clip_by_value(inside, -1, 1),
    }
    return known[options.fusedActivationFunction](values)


def _biased(values: Tensor, given: Given) -> Tensor:
    return values + given[2] if len(given) > 2 and given[2] is not None else values  # noqa: PLR2004


def _convolution(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    kernel = np.transpose(given[1], (1, 2, 3, 0))
    found = tf.nn.conv2d(
        given[0],
        kernel,
        (options.strideH, options.strideW),
        _PADDING[options.padding],
        dilations=(options.dilationHFactor, options.dilationWFactor),
    )
    return _activated(_biased(found, given), options)


def _depthwise(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    height, width, channels = given[1].shape[1:]
    taken = int(given[0].shape[-1])
    kernel = np.reshape(given[1], (height, width, taken, channels // taken))
    found = tf.nn.depthwise_conv2d(
        given[0],
        kernel,
        (1, options.strideH, options.strideW, 1),
        _PADDING[options.padding],
        dilations=(options.dilationHFactor, options.dilationWFactor),
    )
    return _activated(_biased(found, given), options)


def _dense(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    flat = given[0] if options.keepNumDims else tf.reshape(given[0], (-1, given[1].shape[1]))
    return _activated(_biased(tf.linalg.matmul(flat, np.transpose(given[1])), given), options)


def _pooled(kind: str) -> _Operator:
    def pool(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
        import tensorflow as tf

        window, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        return _activated(tf.nn.pool(given[0], window, kind, strides, _PADDING[options.padding]), options)

    return pool


def _reshaped(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    return tf.reshape(given[0], (-1, *shape[1:]))


def _mean(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    return tf.reduce_mean(given[0], np.atleast_1d(given[1]).tolist(), keepdims=options.keepDims)


def _joined(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    return _activated(tf.concat(given, options.axis), options)


def _padded(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
    import tensorflow as tf

    return tf.pad(given[0], given[1])


def _plain(name: str) -> _Operator:
    def apply(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
        import tensorflow as tf

        functions: dict[str, Callable[[Tensor], Tensor]] = {
            "same": tf.identity,
            "relu": tf.nn.relu,
            "relu6": tf.nn.relu6,
            "sigmoid": tf.sigmoid,
            "tanh": tf.tanh,
            "softmax": tf.nn.softmax,
            "hard_swish": lambda inside: inside * tf.nn.relu6(inside + 3) / 6,
        }
        return functions[name](given[0])

    return apply


def _arithmetic(name: str) -> _Operator:
    def apply(given: Given, options: FlatbufferObject, shape: tuple[int, ...]) -> Tensor:
        import tensorflow as tf

        functions = {"add": tf.add, "subtract": tf.subtract, "multiply": tf.multiply}
        return _activated(functions[name](given[0], given[1]), options)

    return apply


_OPERATORS: dict[str, _Operator] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pooled("AVG"),
    "MAX_POOL_2D": _pooled("MAX"),
    "MEAN": _mean,
    "RESHAPE": _reshaped,
    "CONCATENATION": _joined,
    "PAD": _padded,
    "ADD": _arithmetic("add"),
    "SUB": _arithmetic("subtract"),
    "MUL": _arithmetic("multiply"),
    "QUANTIZE": _plain("same"),
    "DEQUANTIZE": _plain("same"),
    "RELU": _plain("relu"),
    "RELU6": _plain("relu6"),
    "LOGISTIC": _plain("sigmoid"),
    "TANH": _plain("tanh"),
    "SOFTMAX": _plain("softmax"),
    "HARD_SWISH": _plain("hard_swish"),
}
