"""Change weights so that the errors of a layer's outputs cancel: GPTQ and its relatives.

Frantar, Ashkboos, Hoefler, Alistarh: GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers
(2022), https://arxiv.org/abs/2210.17323. After each weight is changed, those that are still to be changed take over its
error as far as their inputs have moved together with its own.

`rows` are the weights of a layer, (outputs, inputs), and `moments` the mean product of each two inputs over samples:
(1, inputs, inputs), or (outputs, inputs, inputs) if each row has inputs of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int8]
Number = TypeVar("Number", bound=np.generic)

DAMPING = 0.01
"""Added to every input's mean square, as a share of their mean: inputs that hardly move must not take over much."""
MAKE_UP_DAMPING = 0.03
"""The same where all weights that stay take over at once, which trusts the moments of a few samples more."""
_TOLERANCE = 1e-10
"""Of the squared residual: what is left to gain."""
_MAX_ROUNDS = 100
_BLOCK = 128
"""Columns after which the rest of the rows is corrected at once."""


def round_by_inputs(rows: Floats, scales: Floats, moments: Floats, limit: int) -> Codes:
    """Return the codes of weights, -limit to limit, that give nearly the outputs of the weights themselves.

    There is one scale per row. Zeros stay zero.
    """
    values = change_by_inputs(rows, moments, lambda column: np.clip(np.round(column / scales), -limit, limit) * scales)
    return np.rint(values / scales[:, None]).astype(np.int8)


def change_by_inputs(rows: Floats, moments: Floats, nearest: Callable[[Floats], Floats]) -> Floats:
    """Return weights out of a set of values that give nearly the outputs of `rows`.

    `nearest` turns one weight per row into the nearest value that is allowed. Zeros stay zero.
    """
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")  # the largest inputs first
    upper = _inverse_root(moments, order)
    places = np.broadcast_to(order, rows.shape)
    left = np.take_along_axis(rows.astype(np.float64), places, axis=1)
    is_zero = left == 0
    changed = np.zeros(rows.shape)
    for start in range(0, rows.shape[1], _BLOCK):
        end = min(start + _BLOCK, rows.shape[1])
        errors = np.empty((len(rows), end - start))
        for column in range(start, end):
            changed[:, column] = np.where(is_zero[:, column], 0, nearest(left[:, column]))
            error = (left[:, column] - changed[:, column]) / upper[:, column, column]
            left[:, column + 1 : end] -= error[:, None] * upper[:, column, column + 1 : end]
            errors[:, column - start] = error
        rest = upper[:, start:end, end:]
        left[:, end:] -= errors @ rest[0] if len(rest) == 1 else np.einsum("oi,oij->oj", errors, rest)
    in_place = np.empty_like(changed)
    np.put_along_axis(in_place, places, changed, axis=1)
    return in_place


def make_up(rows: Floats, is_kept: NDArray[np.bool_], moments: Floats) -> Floats:
    """Return weights of which those that are not kept are zero, and the others make up for them in the outputs.

    It is the least squares solution of each row, by conjugate gradients on all rows at once (Hestenes, Stiefel: Methods
    of Conjugate Gradients for Solving Linear Systems, 1952), scaled by the diagonal.
    """
    damped = _damped(moments.astype(np.float64), MAKE_UP_DAMPING)
    scale = 1 / np.diagonal(damped, axis1=1, axis2=2)

    def times(values: Floats) -> Floats:
        product = values @ damped[0] if len(damped) == 1 else np.einsum("oi,oij->oj", values, damped)
        return np.asarray(np.where(is_kept, product, 0.0))

    changed = np.where(is_kept, rows, 0.0).astype(np.float64)
    left = times(rows - changed)
    step = scale * left
    size = (left * step).sum(axis=1)
    enough = _TOLERANCE * size
    for _ in range(_MAX_ROUNDS):
        product = times(step)
        length = _ratio(size, (step * product).sum(axis=1))
        changed += length[:, None] * step
        left -= length[:, None] * product
        scaled = scale * left
        before, size = size, (left * scaled).sum(axis=1)
        if (size <= enough).all():
            break
        step = scaled + _ratio(size, before)[:, None] * step
    return changed


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def rows_of(weight: NDArray[Number], output_axis: int) -> NDArray[Number]:
    """Return a weight as (outputs, inputs)."""
    return np.moveaxis(weight, output_axis, 0).reshape(weight.shape[output_axis], -1)


def in_place(rows: NDArray[Number], shape: tuple[int, ...], output_axis: int) -> NDArray[Number]:
    """Return what has one row per output in the shape of the weight."""
    return np.moveaxis(rows.reshape(shape[output_axis], *np.delete(shape, output_axis)), 0, output_axis)


def sensitivities(moments: Floats, damping: float = DAMPING) -> Floats:
    """Return what a squared change of each input's weight costs when the other weights make up for what they can.

    (1, inputs) or (outputs, inputs): the inverse of the diagonal of the inverse moments, as in Hassibi, Stork: Second
    Order Derivatives for Network Pruning: Optimal Brain Surgeon (1992).
    """
    inverse = np.linalg.inv(_damped(moments.astype(np.float64), damping))
    return np.asarray(1 / np.diagonal(inverse, axis1=1, axis2=2))


def _inverse_root(moments: Floats, order: NDArray[np.intp]) -> Floats:
    """Return the upper triangular U with U^T U the inverse of the damped moments, inputs in that order."""
    ordered = np.take_along_axis(moments.astype(np.float64), order[:, :, None], axis=1)
    ordered = np.take_along_axis(ordered, order[:, None, :], axis=2)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(_damped(ordered, DAMPING))).swapaxes(1, 2))


def _damped(moments: Floats, damping: float) -> Floats:
    mean = np.diagonal(moments, axis1=1, axis2=2).mean(axis=1)
    added = damping * np.where(mean > 0, mean, 1.0)
    return np.asarray(moments + added[:, None, None] * np.eye(moments.shape[1]))
