"""Few distinct magnitudes for many weights: k-means on one tensor (Han et al. 2016, "Deep Compression").

Magnitudes are clustered in units of each channel's largest weight, and the sign is kept apart. So every channel's
largest weight falls into the same top cluster, and int8 codes with one scale per channel keep the few distinct values;
raw values would not survive that, nor the folding of batch normalization. Zero is a value of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE = 1e-12
_MAX_ROUNDS = 100

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sharing:
    """Which weight belongs to which cluster. `weight = sign * scale * magnitude of its cluster`."""

    cluster: NDArray[np.int32]
    """Shape of the weight; cluster 0 is zero."""
    magnitudes: Floats
    """(clusters,), ascending, the first is 0."""
    sign: Floats
    """-1, 0 or 1 each weight."""
    scale: Floats
    """Largest magnitude of each channel, in a shape that broadcasts."""

    @property
    def clusters(self) -> int:
        """How many magnitudes there are, zero included."""
        return len(self.magnitudes)

    def values(self) -> Floats:
        """Return the weights in shared values."""
        return np.asarray(self.sign * self.scale * self.magnitudes[self.cluster], np.float32)


def share(weight: Floats, values: int, *, reduced_axes: tuple[int, ...], keep_zeros: bool = True) -> Sharing:
    """Cluster a weight so that at most `values` distinct multiples of the channel's scale are left, zero among them.

    `reduced_axes` are all axes but the channels'; all axes give plain clustering of one scale per tensor. Without
    `keep_zeros` a zero that is one by chance may take the smallest magnitude.
    """
    scale = np.maximum(np.abs(weight).max(axis=reduced_axes, keepdims=True), SMALLEST_SCALE)
    normal = np.abs(weight) / scale
    sign = np.sign(weight)
    wanted = max(1, (values - 1) // 2)
    samples = normal[normal > 0] if keep_zeros else normal.reshape(-1)
    centres = kmeans_1d(samples, wanted) if samples.size else np.ones(1)
    magnitudes = np.concatenate([[0.0], centres])
    edges = (centres[1:] + centres[:-1]) / 2
    cluster = np.searchsorted(edges, normal) + 1
    cluster = np.where(normal == 0, 0, cluster).astype(np.int32)
    return Sharing(cluster, magnitudes, np.where(cluster == 0, 0.0, sign), scale)


def kmeans_1d(samples: Floats, count: int) -> Floats:
    """Return up to `count` ascending centres of one-dimensional samples, by Lloyd's rounds from a linear start.

    A linear start keeps the few large weights, which matter most, in clusters of their own (Han et al., section 3.2).
    """
    ordered = np.sort(samples.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = np.unique(np.linspace(ordered[0], ordered[-1], count))
    for _ in range(_MAX_ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(bounds)
        means = np.divide(np.diff(sums[bounds]), sizes, out=centres.copy(), where=sizes > 0)
        if np.allclose(means, centres, rtol=0, atol=1e-9):
            break
        centres = means
    return centres
