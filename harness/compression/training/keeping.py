"""The views that keep what earlier steps made of the weights, whatever trains next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.compression.training.kernels import Kernel
from harness.compression.training.views import Masked, Shared, View
from harness.compression.weights.clusters import share

if TYPE_CHECKING:
    from harness.compression.recipe_state import Workpiece


def kept_structure(work: Workpiece, kernels: Sequence[Kernel]) -> dict[str, list[View]]:
    """Return, by kernel, views under which zeros stay zero and weights of one value stay equal."""
    return {kernel.name: [*zeros_view(work, kernel), *_clusters_view(work, kernel)] for kernel in kernels}


def zeros_view(work: Workpiece, kernel: Kernel) -> list[View]:
    """Return the view that keeps zeros, where a step has pruned."""
    return [Masked(kernel.variable.numpy() != 0)] if work.keeps_zeros else []


def shared_view(kernel: Kernel, values: int, *, per_tensor: bool) -> View:
    """Return the view under which a kernel has at most so many values, in units of each channel's or one scale."""
    weight = np.asarray(kernel.variable.numpy())
    axes = tuple(range(weight.ndim)) if per_tensor else kernel.reduced_axes
    return Shared(share(weight, values, reduced_axes=axes))


def _clusters_view(work: Workpiece, kernel: Kernel) -> list[View]:
    if work.keeps_clusters is None:
        return []
    return [shared_view(kernel, work.keeps_clusters, per_tensor=work.clusters_per_tensor)]
