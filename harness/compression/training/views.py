"""How the network sees a weight while it trains: masked, shared, or on a grid of few bits.

The variable itself stays float and free; gradients reach it through the view. `settle` writes the view of what must
stay (zeros, shared values, the grid) into the variable when training ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.compression.training.kernels import Kernel
from harness.compression.weights.clusters import Sharing, share
from harness.tflite.library_types import KerasTensor

if TYPE_CHECKING:
    from harness.compression.recipe_state import RecipeState


SMALLEST_SCALE = 1e-12


class View(Protocol):
    """One change of a weight, as a differentiable function."""

    def __call__(self, weight: KerasTensor) -> KerasTensor:
        """Return the weight as the network sees it; same shape."""
        ...


class Masked:
    """Zeros where the mask is 0; no gradient reaches a masked weight. The mask may change while training."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self._mask = keras.Variable(mask.astype(np.float32), trainable=False, name="mask")

    def change(self, mask: NDArray[np.bool_]) -> None:
        """Put another mask in place."""
        self._mask.assign(mask.astype(np.float32))

    def __call__(self, weight: KerasTensor) -> KerasTensor:
        """Return the weight with zeros."""
        return weight * self._mask.value


class Shared:
    """Weights of one cluster move together: each is seen as its cluster's mean magnitude times its sign and scale."""

    def __init__(self, sharing: Sharing) -> None:
        self._scale = tf.constant(sharing.scale, tf.float32)
        self._sign = tf.constant(sharing.sign, tf.float32)
        self._cluster = tf.constant(sharing.cluster.reshape(-1), tf.int32)
        sizes = np.bincount(sharing.cluster.reshape(-1), minlength=sharing.clusters)
        self._sizes = tf.constant(np.maximum(sizes, 1), tf.float32)
        self._shape = sharing.cluster.shape

    def __call__(self, weight: KerasTensor) -> KerasTensor:
        """Return the weight in shared values."""
        magnitudes = tf.reshape(weight / self._scale * self._sign, [-1])
        means = tf.math.unsorted_segment_sum(magnitudes, self._cluster, len(self._sizes)) / self._sizes
        return tf.reshape(tf.gather(means, self._cluster), self._shape) * self._sign * self._scale


class OnGrid:
    """Fake quantization: symmetric, one scale per channel, rounded to `bits`; gradients pass straight through.

    The scale is the largest magnitude over 2**(bits - 1) - 1, as in the quantizer (Jacob et al. 2018, "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"). One scale per channel makes folding
    a batch normalization harmless: it multiplies weight and scale alike.
    """

    def __init__(self, bits: int, reduced_axes: tuple[int, ...]) -> None:
        self._limit = float(2 ** (bits - 1) - 1)
        self._axes = reduced_axes

    def __call__(self, weight: KerasTensor) -> KerasTensor:
        """Return the weight on the grid."""
        largest = tf.stop_gradient(tf.reduce_max(tf.abs(weight), axis=self._axes, keepdims=True))
        scale = tf.maximum(largest / self._limit, SMALLEST_SCALE)
        return weight + tf.stop_gradient(tf.round(weight / scale) * scale - weight)


def settle(kernels: Sequence[Kernel], views: Mapping[str, Sequence[View]]) -> None:
    """Write each weight's view into its variable."""
    for kernel in kernels:
        value = kernel.variable.value
        for view in views.get(kernel.name, ()):
            value = view(value)
        kernel.variable.assign(value)


def kept_structure(work: RecipeState, kernels: Sequence[Kernel]) -> dict[str, list[View]]:
    """Return, by kernel, views under which zeros stay zero and weights of one value stay equal."""
    return {kernel.name: [*zeros_view(work, kernel), *_clusters_view(work, kernel)] for kernel in kernels}


def zeros_view(work: RecipeState, kernel: Kernel) -> list[View]:
    """Return the view that keeps zeros, where a step has pruned."""
    return [Masked(kernel.variable.numpy() != 0)] if work.keeps_zeros else []


def shared_view(kernel: Kernel, values: int, *, per_tensor: bool) -> View:
    """Return the view under which a kernel has at most this many values, in units of each channel's or one scale."""
    weight = np.asarray(kernel.variable.numpy())
    axes = tuple(range(weight.ndim)) if per_tensor else kernel.reduced_axes
    return Shared(share(weight, values, reduced_axes=axes))


def _clusters_view(work: RecipeState, kernel: Kernel) -> list[View]:
    if work.keeps_clusters is None:
        return []
    return [shared_view(kernel, work.keeps_clusters, per_tensor=work.clusters_per_tensor)]
