"""The weights that a technique may change: a Keras model's kernels, or a graph's float constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.weights import Weight, weights

if TYPE_CHECKING:
    from harness.compression.recipe_state import Workpiece
    from harness.compression.training.kernels import Kernel


def keras_kernels(work: Workpiece) -> list[Kernel]:
    """Return the kernels of the Keras model. Raises `CompressionError` where it has none."""
    from harness.compression.training.kernels import find_kernels

    kernels = find_kernels(work.keras_model())
    if not kernels:
        raise _refused(f"{work.model.name} has no convolution or dense layer, so there is nothing to change.")
    return kernels


def graph_weights(work: Workpiece, *, epochs: int) -> dict[str, Weight]:
    """Return the float kernels of the graph, which cannot be trained: `epochs` must be 0. Raises `CompressionError`."""
    if epochs:
        raise _refused(f"{work.model.name} is a graph, which cannot be trained: set epochs = 0.")
    found = weights(work.graph())
    if not found:
        raise _refused(
            f"{work.model.name} has no convolution or dense layer with float weights, so there is nothing to change."
        )
    return found


def _refused(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
