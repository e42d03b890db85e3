"""Which weights to set to zero: pure functions over arrays, for Keras kernels and `.tflite` constants alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
"""True if a weight stays."""

Scope = Literal["global", "local", "lamp"]


def magnitude_masks(weights: Mapping[str, Floats], sparsity: float, scope: Scope) -> dict[str, Mask]:
    """Return masks that drop the share `sparsity` (0 to 1) of all weights, the smallest first.

    * `local` drops that share of every tensor (Han et al. 2015, "Learning both Weights and Connections");
    * `global` ranks all weights together, so that robust layers give more;
    * `lamp` ranks by the weight's squared share of what is left of its tensor from there up (Lee et al. 2021,
      "Layer-adaptive Sparsity for the Magnitude-based Pruning"), which never empties a layer.
    """
    if scope == "local":
        return {name: _largest(np.abs(weight), sparsity) for name, weight in weights.items()}
    scores = {name: _lamp(weight) if scope == "lamp" else np.abs(weight) for name, weight in weights.items()}
    if not scores:
        return {}
    kept = _largest(np.concatenate([score.reshape(-1) for score in scores.values()]), sparsity)
    masks, start = {}, 0
    for name, score in scores.items():
        masks[name] = kept[start : start + score.size].reshape(score.shape)
        start += score.size
    return masks


def n_of_m_mask(weight: Floats, n: int, m: int, axis: int) -> Mask:
    """Keep the `n` largest of every `m` weights in a row along `axis`; a rest shorter than `m` is kept whole.

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks".
    """
    rows = np.moveaxis(np.abs(weight), axis, -1)
    whole = rows.shape[-1] // m * m
    groups = rows[..., :whole].reshape(*rows.shape[:-1], whole // m, m)
    rank = np.argsort(np.argsort(-groups, axis=-1, kind="stable"), axis=-1)
    kept = np.ones(rows.shape, bool)
    kept[..., :whole] = (rank < n).reshape(*rows.shape[:-1], whole)
    return np.asarray(np.moveaxis(kept, -1, axis))


def block_scores(weight: Floats, block: int, axis: int) -> Floats:
    """Return each weight's block's root mean square, for blocks of `block` weights in a row along `axis`.

    Used as magnitudes, they make whole blocks stay or go, which is what sparse kernels of runtimes want.
    """
    rows = np.moveaxis(np.asarray(weight, np.float64), axis, -1)
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % block)])
    blocks = padded.reshape(*rows.shape[:-1], -1, block)
    counts = np.minimum(block, rows.shape[-1] - block * np.arange(blocks.shape[-2]))
    scores = np.sqrt((blocks**2).sum(-1) / counts)
    spread = np.repeat(scores, block, axis=-1)[..., : rows.shape[-1]]
    return np.asarray(np.moveaxis(spread, -1, axis))


def polynomial_sparsity(final: float, step: int, last_step: int) -> float:
    """Return the sparsity at a step of a gradual pruning that reaches `final` at `last_step`.

    s(t) = f - f * (1 - t / n)**3 (Zhu and Gupta 2017, "To Prune, or Not to Prune", equation 1).
    """
    left = max(0.0, 1 - step / max(1, last_step))
    return final * (1 - left**3)


def sparsity_of(weights: Mapping[str, Floats]) -> float:
    """Return the share of exact zeros among all weights."""
    total = sum(weight.size for weight in weights.values())
    return sum(int((weight == 0).sum()) for weight in weights.values()) / total if total else 0.0


def _largest(scores: Floats, sparsity: float) -> Mask:
    """Keep the largest scores; exactly round(size * sparsity) go, earlier ones first among equals."""
    drop = round(scores.size * sparsity)
    kept = np.ones(scores.size, bool)
    kept[np.argsort(scores.reshape(-1), kind="stable")[:drop]] = False
    return kept.reshape(scores.shape)


def _lamp(weight: Floats) -> Floats:
    squares = np.asarray(weight, np.float64).reshape(-1) ** 2
    order = np.argsort(squares, kind="stable")
    left = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares[order], left, out=np.zeros_like(left), where=left > 0)
    return scores.reshape(weight.shape)
