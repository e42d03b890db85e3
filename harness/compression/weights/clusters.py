"""Few distinct magnitudes for many weights: k-means on one tensor (Han et al. 2016, "Deep Compression").

With the moments of a layer's inputs, a weight counts by what a change of it costs (Choi et al. 2017, "Towards the Limit
of Network Quantization"), and weights are assigned so that the errors of the outputs cancel, see `error_aware`.

Magnitudes are clustered in units of each channel's largest weight, and the sign is kept apart. So every channel's
largest weight falls into the same top cluster, and int8 codes with one scale per channel keep the few distinct values;
raw values would not survive that, nor the folding of batch normalization. Zero is a value of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.weights.error_aware import change_by_inputs, in_place, rows_of, sensitivities

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


def share(
    weight: Floats,
    values: int,
    *,
    reduced_axes: tuple[int, ...],
    keep_zeros: bool = True,
    moments: Floats | None = None,
    output_axis: int = 0,
) -> Sharing:
    """Cluster a weight so that at most `values` distinct multiples of the channel's scale are left, zero among them.

    `reduced_axes` are all axes but the channels'; all axes give plain clustering of one scale per tensor. Without
    `keep_zeros` a zero that is one by chance may take the smallest magnitude. `moments` are those of the inputs of each
    channel along `output_axis`; with them the scales must be of whole outputs, and small weights may become zero.
    """
    scale = np.maximum(np.abs(weight).max(axis=reduced_axes, keepdims=True), SMALLEST_SCALE)
    normal = np.abs(weight) / scale
    is_sampled = normal > 0 if keep_zeros else np.ones(normal.shape, bool)
    costs = np.ones(weight.shape)
    if moments is not None:
        rows = np.broadcast_to(sensitivities(moments), rows_of(weight, output_axis).shape)
        costs = in_place(rows, weight.shape, output_axis) * scale**2
    wanted = max(1, (values - 1) // 2)
    centres = kmeans_1d(normal[is_sampled], wanted, costs[is_sampled]) if is_sampled.any() else np.ones(1)
    if moments is not None:
        weight = _assigned(weight, scale, centres, moments, output_axis)
        normal = np.abs(weight) / scale
    cluster = np.searchsorted((centres[1:] + centres[:-1]) / 2, normal) + 1
    cluster = np.where(normal == 0, 0, cluster).astype(np.int32)
    return Sharing(cluster, np.concatenate([[0.0], centres]), np.where(cluster == 0, 0.0, np.sign(weight)), scale)


def _assigned(weight: Floats, scale: Floats, centres: Floats, moments: Floats, output_axis: int) -> Floats:
    """Return the weight in shared values whose outputs are nearly those of the weight itself."""
    magnitudes = np.concatenate([[0.0], centres])
    edges = (magnitudes[1:] + magnitudes[:-1]) / 2
    units = rows_of(np.broadcast_to(scale, weight.shape), output_axis)[:, 0]

    def nearest(column: Floats) -> Floats:
        return np.asarray(np.sign(column) * units * magnitudes[np.searchsorted(edges, np.abs(column) / units)])

    return in_place(change_by_inputs(rows_of(weight, output_axis), moments, nearest), weight.shape, output_axis)


def kmeans_1d(samples: Floats, count: int, costs: Floats | None = None) -> Floats:
    """Return up to `count` ascending centres of one-dimensional samples, by Lloyd's rounds from a linear start.

    A linear start keeps the few large weights, which matter most, in clusters of their own (Han et al., section 3.2).
    `costs` are what a squared error of each sample costs; by default all are equal.
    """
    order = np.argsort(samples, kind="stable")
    ordered = samples[order].astype(np.float64)
    counts = np.ones(len(ordered)) if costs is None else costs[order].astype(np.float64)
    sums, totals = (np.concatenate([[0.0], np.cumsum(values)]) for values in (ordered * counts, counts))
    centres = np.unique(np.linspace(ordered[0], ordered[-1], count))
    for _ in range(_MAX_ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(totals[bounds])
        means = np.divide(np.diff(sums[bounds]), sizes, out=centres.copy(), where=sizes > 0)
        means = np.clip(np.sort(means), ordered[0], ordered[-1])  # differences of sums lose digits
        if np.allclose(means, centres, rtol=0, atol=1e-9):
            break
        centres = means
    return centres
