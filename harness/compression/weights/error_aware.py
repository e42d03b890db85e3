"""Round weights so that the errors of a layer's outputs cancel: GPTQ.

Frantar, Ashkboos, Hoefler, Alistarh: GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers
(2022), https://arxiv.org/abs/2210.17323. After each weight is rounded, those that are still to be rounded take over its
error as far as their inputs have moved together with its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int8]

DAMPING = 0.01
"""Added to every input's mean square, as a share of their mean: inputs that hardly move must not take over much."""
_BLOCK = 128
"""Columns after which the rest of the rows is corrected at once."""


def round_by_inputs(rows: Floats, scales: Floats, moments: Floats, limit: int) -> Codes:
    """Return the codes of weights, -limit to limit, that give nearly the outputs of the weights themselves.

    `rows` is (outputs, inputs) with one scale per row, `moments` the mean product of each two inputs over samples:
    (1, inputs, inputs), or (outputs, inputs, inputs) if each row has inputs of its own. Zeros stay zero.
    """
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")  # the largest inputs first
    upper = _inverse_root(moments, order)
    places = np.broadcast_to(order, rows.shape)
    left = np.take_along_axis(rows.astype(np.float64), places, axis=1)
    is_zero = left == 0
    sorted_codes = np.zeros(rows.shape, np.int8)
    for start in range(0, rows.shape[1], _BLOCK):
        end = min(start + _BLOCK, rows.shape[1])
        errors = np.empty((len(rows), end - start))
        for column in range(start, end):
            rounded = np.clip(np.round(left[:, column] / scales), -limit, limit)
            rounded[is_zero[:, column]] = 0
            sorted_codes[:, column] = rounded
            error = (left[:, column] - rounded * scales) / upper[:, column, column]
            left[:, column + 1 : end] -= error[:, None] * upper[:, column, column + 1 : end]
            errors[:, column - start] = error
        rest = upper[:, start:end, end:]
        left[:, end:] -= errors @ rest[0] if len(rest) == 1 else np.einsum("oi,oij->oj", errors, rest)
    codes = np.empty_like(sorted_codes)
    np.put_along_axis(codes, places, sorted_codes, axis=1)
    return codes


def _inverse_root(moments: Floats, order: NDArray[np.intp]) -> Floats:
    """Return the upper triangular U with U^T U the inverse of the damped moments, inputs in that order."""
    ordered = np.take_along_axis(moments.astype(np.float64), order[:, :, None], axis=1)
    ordered = np.take_along_axis(ordered, order[:, None, :], axis=2)
    mean = np.diagonal(ordered, axis1=1, axis2=2).mean(axis=1)
    damping = DAMPING * np.where(mean > 0, mean, 1.0)
    inverse = np.linalg.inv(ordered + damping[:, None, None] * np.eye(ordered.shape[1]))
    return np.asarray(np.linalg.cholesky(inverse).swapaxes(1, 2))
