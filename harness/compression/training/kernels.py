"""The weights of a Keras model that techniques change: the kernels of its convolutions and dense layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import KerasModel, KerasTensor
from harness.tflite.weights import Weight, weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.compression.recipe_state import RecipeState
    from harness.compression.training.settings import UntrainedSettings

_KERNELS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "Dense": (("kernel", (1,)),),
    "Conv1D": (("kernel", (2,)),),
    "Conv2D": (("kernel", (3,)),),
    "Conv3D": (("kernel", (4,)),),
    "Conv1DTranspose": (("kernel", (1,)),),
    "Conv2DTranspose": (("kernel", (2,)),),
    "Conv3DTranspose": (("kernel", (3,)),),
    "DepthwiseConv1D": (("kernel", (1, 2)),),
    "DepthwiseConv2D": (("kernel", (2, 3)),),
    "SeparableConv1D": (("depthwise_kernel", (1, 2)), ("pointwise_kernel", (2,))),
    "SeparableConv2D": (("depthwise_kernel", (2, 3)), ("pointwise_kernel", (3,))),
}
"""Attribute and output channel axes by layer class."""
KERNEL_LAYERS = frozenset(_KERNELS)
"""The layer classes that have kernels."""


@dataclass(frozen=True)
class Kernel:
    """One weight variable and where its output channels lie."""

    variable: Any
    layer: str
    channel_axes: tuple[int, ...]

    @property
    def name(self) -> str:
        """The variable's path in the model."""
        return str(self.variable.path)

    @property
    def size(self) -> int:
        """How many weights it has."""
        return math.prod(int(size) for size in self.variable.shape)

    @property
    def is_depthwise(self) -> bool:
        """Return True if every output channel sees one input channel alone."""
        return len(self.channel_axes) > 1

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        """All axes but the output channels'."""
        return tuple(axis for axis in range(len(self.variable.shape)) if axis not in self.channel_axes)


def find_kernels(network: KerasModel) -> list[Kernel]:
    """Return the kernels of all layers, nested models included, in the network's order."""
    import keras

    found: list[Kernel] = []
    for layer in network._flatten_layers(include_self=False):
        for attribute, axes in _KERNELS.get(type(layer).__name__, ()):
            variable = getattr(layer, f"_{attribute}", None)
            variable = variable if isinstance(variable, keras.Variable) else getattr(layer, attribute)
            found.append(Kernel(variable, layer.name, axes))
    return found


def set_weights(layer: KerasModel, weights: KerasTensor) -> None:
    """Set a layer's weights; a `Normalization` keeps the mean and variance of before unless it is reset."""
    layer.set_weights(weights)
    if is_adapted(layer):
        layer.finalize_state()


def is_adapted(layer: KerasModel) -> bool:
    """Return True if a layer's weights were read off data, such as a mean, and not trained."""
    return callable(getattr(layer, "finalize_state", None))


def copy_adapted(network: KerasModel, other: KerasModel) -> None:
    """Give a fresh network of the same layer names what was read off data: it belongs to the data, not to training."""
    for layer in network.layers:
        if is_adapted(layer) and layer.weights:
            set_weights(other.get_layer(layer.name), layer.get_weights())


def keras_kernels(work: RecipeState) -> list[Kernel]:
    """Return the kernels of the Keras model. Raises `CompressionError` if it has none."""
    kernels = find_kernels(work.keras_model())
    if not kernels:
        raise _refused(f"{work.model.name} has no convolution or dense layer, so there is nothing to change.")
    return kernels


def graph_weights(work: RecipeState, *, epochs: int) -> dict[str, Weight]:
    """Return the float kernels of the graph, which cannot be trained: `epochs` must be 0. Raises `CompressionError`."""
    if epochs:
        raise _refused(f"{work.model.name} is a graph, which cannot be trained: set epochs = 0.")
    found = weights(work.graph())
    if not found:
        raise _refused(
            f"{work.model.name} has no convolution or dense layer with float weights, so there is nothing to change."
        )
    return found


def input_moments(work: RecipeState, settings: UntrainedSettings) -> dict[str, NDArray[np.float64]]:
    """Return the moments of what the kernels of the graph are multiplied with, by their names; none if none count."""
    from harness.compression.graph.input_moments import moments_by_name
    from harness.compression.graph.quantizer import prepare

    request = settings.calibration_request()
    if request is None:
        return {}
    work.replace_graph(prepare(work.graph()))
    return moments_by_name(work, work.graph(), request)


def _refused(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
