"""The weights of a Keras model that techniques change: the kernels of its convolutions and dense layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_KERNELS: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "Dense": (("kernel", (1,)),),
    "Conv1D": (("kernel", (2,)),),
    "Conv2D": (("kernel", (3,)),),
    "Conv2DTranspose": (("kernel", (2,)),),
    "DepthwiseConv2D": (("kernel", (2, 3)),),
    "SeparableConv2D": (("depthwise_kernel", (2, 3)), ("pointwise_kernel", (3,))),
}
"""Attribute and output channel axes by layer class."""


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
        """Whether every output channel sees one input channel alone."""
        return len(self.channel_axes) > 1

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        """All axes but the output channels'."""
        return tuple(axis for axis in range(len(self.variable.shape)) if axis not in self.channel_axes)


def find_kernels(network: Any) -> list[Kernel]:  # noqa: ANN401 - Keras has no types
    """Return the kernels of all layers, nested models included, in the network's order."""
    import keras

    found: list[Kernel] = []
    for layer in network._flatten_layers(include_self=False):
        for attribute, axes in _KERNELS.get(type(layer).__name__, ()):
            variable = getattr(layer, f"_{attribute}", None)
            variable = variable if isinstance(variable, keras.Variable) else getattr(layer, attribute)
            found.append(Kernel(variable, layer.name, axes))
    return found
