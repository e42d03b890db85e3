"""What Keras 2 wrote about a network, in the words of Keras 3."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from harness.tflite.library_types import JsonValue, KerasModel, KerasTensor

Config: TypeAlias = dict[str, JsonValue]

_ALWAYS_HARMLESS = {
    "implementation",
    "input_length",
    "key_shape",
    "kernel_constraint",
    "kernel_initializer",
    "kernel_regularizer",
    "query_shape",
    "rng_type",
    "trainable",
    "value_shape",
    "vocabulary_size",
}
"""Arguments that change no output, dropped from layers of which Keras 3 does not know them."""
_HARMLESS_VALUES: Config = {
    "groups": 1,
    "noise_shape": None,
    "renorm": False,
    "softmax_robust_masking": False,
    "time_major": False,
    "virtual_batch_size": None,
}
"""Arguments that Keras 3 has only this value for."""
_NETWORKS = ("Functional", "Model", "Sequential")
_GONE = ("DenseFeatures", "Discretization", "LocallyConnected1D", "LocallyConnected2D", "RandomCrop")
"""Not in Keras 3, or it computes something else there."""
_ONLY_WHILE_TRAINING = ("RandomHeight", "RandomWidth")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_CONSTANT = "_CONSTANT_VALUE"
_REFERENCE = 3
"""A tensor is named by its layer, by the number of the layer's call, and by its place among the outputs."""

_PURE = re.compile(r"(math|nn|linalg|__operators__)\.[a-z]\w*")
_PURE_FUNCTIONS = {
    *("abs", "argmax", "argmin", "broadcast_to", "cast", "clip_by_value", "concat", "constant", "convert_to_tensor"),
    *("cumsum", "einsum", "expand_dims", "fill", "gather", "gather_nd", "identity", "image.resize", "maximum"),
    *("minimum", "nest.flatten", "ones", "ones_like", "pad", "range", "realdiv", "repeat", "reshape", "reverse"),
    *(
        "shape",
        "slice",
        "split",
        "squeeze",
        "stack",
        "stop_gradient",
        "strided_slice",
        "tensordot",
        "tile",
        "transpose",
    ),
    *("unstack", "where", "zeros", "zeros_like", "batch_to_space", "space_to_batch", "roll", "rank"),
    *("size", "norm"),
}
"""Functions of TensorFlow that compute and do nothing else: a model file may name no others."""


class UnknownLayerError(Exception):
    """The network has a part that Keras 3 cannot build; the message names it."""


@keras.saving.register_keras_serializable(package="harness")
class TensorFlowCall(keras.Operation):  # type: ignore[misc] # Keras has no types
    """Calls a function of TensorFlow, as the layers `TFOpLambda` and `SlicingOpLambda` of Keras 2 did."""

    def __init__(self, function: str, name: str | None = None) -> None:
        super().__init__(name=name)
        self.function = function

    def call(self, *values: KerasTensor, **options: JsonValue) -> KerasTensor:
        """Return what the function makes of the values."""
        return _tensorflow_function(self.function)(*values, **options)

    def get_config(self) -> Config:
        """Return what `from_config` builds the same layer from."""
        return {"function": self.function, "name": self.name}


@keras.saving.register_keras_serializable(package="harness")  # type: ignore[untyped-decorator]
def hard_sigmoid_of_keras_2(values: KerasTensor) -> KerasTensor:
    """Return a fifth of the values plus a half, between 0 and 1; Keras 3 divides by 6."""
    return keras.ops.clip(0.2 * values + 0.5, 0.0, 1.0)


_HARD_SIGMOID = keras.saving.serialize_keras_object(hard_sigmoid_of_keras_2)


def modern_config(config: Config) -> Config:
    """Return a network's config for Keras 3. Raises `UnknownLayerError`."""
    return _modern_layer(_without_slashes(config))


def _without_slashes(config: Config) -> Config:
    """Return the config with `_` for the `/` that Keras 3 refuses in the names of layers, as MobileNetV3 has them."""
    names: set[str] = set()

    def collect(node: JsonValue) -> None:
        if isinstance(node, dict):
            options = node.get("config")
            if "class_name" in node and isinstance(options, dict) and "/" in str(options.get("name")):
                names.add(options["name"])
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(value)

    def renamed(node: JsonValue) -> JsonValue:
        if isinstance(node, list):
            return [renamed(value) for value in node]
        if isinstance(node, dict):
            return {key: renamed(value) for key, value in node.items()}
        return node.replace("/", "_") if isinstance(node, str) and node in names else node

    collect(config)
    changed: Config = renamed(config)
    return changed


def _modern_layer(config: Config) -> Config:
    layer = {key: _modern(value) for key, value in config.items()}
    kind, options = layer["class_name"], layer["config"]
    if kind in _NETWORKS:
        kind = "Sequential" if kind == "Sequential" else "Functional"
        module = "keras.models" if kind == "Sequential" else "keras.src.models.functional"
        layer |= {"class_name": kind, "module": module, "registered_name": kind}
        if isinstance(options, list):  # before 2.3, a Sequential was a list of layers
            options = layer["config"] = {"name": "sequential", "layers": options}
        _connect(options)
        return layer
    if kind in _GONE:
        raise UnknownLayerError(f"layer {options.get('name')} ({kind})")
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        _tensorflow_function(options["function"])
        return layer | {
            "module": None,
            "class_name": "TensorFlowCall",
            "registered_name": "harness>TensorFlowCall",
            "config": {key: options[key] for key in ("name", "function")},
        }
    if kind in _ONLY_WHILE_TRAINING:
        kind, options = "Identity", {"name": options["name"]}
    if kind == "ThresholdedReLU":
        kind, options = "ReLU", {"name": options["name"], "threshold": options["theta"]}
    known = getattr(keras.layers, kind, None)
    if kind == "Lambda":
        layer.pop("module", None)  # Keras 3 then reads it as Keras 2 wrote it, and refuses its code
    if known is None or kind == "Lambda":
        return layer
    return layer | {
        "module": "keras.layers",
        "class_name": kind,
        "registered_name": None,
        "config": _options(kind, known, options),
    }


def _modern(node: JsonValue) -> JsonValue:
    """Return any part of a config with the layers in it changed."""
    if isinstance(node, list):
        return [_modern(value) for value in node]
    if not isinstance(node, dict):
        return node
    options = node.get("config")
    # Every layer has a name; an initializer such as `Identity` has none.
    if isinstance(options, list) or (isinstance(options, dict) and "name" in options and "class_name" in node):
        return _modern_layer(node)
    return {key: _modern(value) for key, value in node.items()}


def _options(kind: str, known: KerasModel, options: Config) -> Config:
    accepted = _accepted(known)
    kept: Config = {}
    for key, value in options.items():
        harmless = key in _ALWAYS_HARMLESS or (key in _HARMLESS_VALUES and value == _HARMLESS_VALUES[key])
        if key == "batch_input_shape":
            if kind == "InputLayer":
                kept["batch_shape"] = value
            elif value is not None:
                kept["input_shape"] = value[1:]
        elif value == "hard_sigmoid" and key in ("activation", "recurrent_activation"):
            kept[key] = _HARD_SIGMOID
        elif key == "axis" and isinstance(value, list) and len(value) == 1:
            kept[key] = value[0]
        elif key in accepted or not harmless:
            kept[key] = value
    return kept


@functools.cache
def _accepted(known: KerasModel) -> frozenset[str]:
    """Return the arguments that a layer's class, and those it hands the rest to, take by name."""
    names: set[str] = set()
    for base in known.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names.update(parameter.name for parameter in parameters)
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
                break
    return frozenset(names)


def _connect(network: Config) -> None:
    """Change how the layers of a functional network are connected."""
    layers = network["layers"]
    # Keras 2 counts a nested network's own definition as its first call.
    before = {layer.get("name"): 1 for layer in layers if layer["class_name"] in _NETWORKS and _has_input(layer)}
    names = {layer.get("name") for layer in layers}

    def tensor(reference: list[JsonValue]) -> JsonValue:
        name, call, output = reference[:_REFERENCE]
        if name == _CONSTANT:
            return output
        history = [name, call - before.get(name, 0), output]
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [], "dtype": "float32", "keras_history": history},
        }

    def argument(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return {"class_name": "__slice__", "config": value} if value.keys() == {"start", "stop", "step"} else value
        if not isinstance(value, list):
            return value
        is_tensor = len(value) == _REFERENCE and isinstance(value[0], str) and value[0] in names
        return tensor(value) if is_tensor else [argument(part) for part in value]

    for layer in layers:
        if "inbound_nodes" in layer:
            layer.pop("build_config", None)  # its call builds it
            kind, nodes = layer["class_name"], layer["inbound_nodes"]
            layer["inbound_nodes"] = [_node(node, kind, tensor, argument) for node in nodes]
    kinds = {layer.get("name"): layer["class_name"] for layer in layers}
    for output in network.get("output_layers", ()):
        # Keras 3 takes this one off for functional networks itself.
        output[1] -= before.get(output[0], 0) * (kinds[output[0]] != "Functional")


def _node(
    node: list[JsonValue],
    kind: str,
    tensor: Callable[[list[JsonValue]], JsonValue],
    argument: Callable[[JsonValue], JsonValue],
) -> Config:
    references = [node] if isinstance(node[0], str) else node
    tensors: list[Any] = [tensor(reference) for reference in references]
    last = references[0][_REFERENCE:]
    options = {key: argument(value) for key, value in (last[0] if last else {}).items()}
    if kind in _RECURRENT and len(tensors) > 1:
        first, *state = tensors
        return {"args": [first], "kwargs": {**options, "initial_state": state}}
    return {"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": options}


def _has_input(layer: Config) -> bool:
    return bool(layer["config"]["layers"][0]["class_name"] == "InputLayer")


def _tensorflow_function(name: str) -> Callable[..., Any]:
    plain = name.removeprefix("compat.v1.")
    if not _PURE.fullmatch(plain) and plain not in _PURE_FUNCTIONS:
        raise UnknownLayerError(f"call of tf.{name}")
    try:
        function: Callable[..., Any] = functools.reduce(getattr, name.split("."), tf)
        return function
    except AttributeError as error:
        raise UnknownLayerError(f"call of tf.{name}") from error
