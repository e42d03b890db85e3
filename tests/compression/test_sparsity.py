"""Which weights go: each rule against a plain reference, and what must always hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from harness.compression.weights.error_aware import MAKE_UP_DAMPING, make_up
from harness.compression.weights.masks import (
    Scope,
    block_scores,
    magnitude_masks,
    n_of_m_mask,
    polynomial_sparsity,
    sparsity_of,
)

WEIGHTS = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.floats(-4, 4, width=32))
SCOPES: list[Scope] = ["global", "local", "lamp"]


def test_global_ranks_all_layers_together_and_local_each_alone() -> None:
    weights = {"small": np.array([0.1, -0.2, 0.3, 0.4]), "large": np.array([1.0, -2.0, 3.0, 4.0])}
    together = magnitude_masks(weights, 0.5, "global")
    assert together["small"].tolist() == [False] * 4
    assert together["large"].tolist() == [True] * 4
    for mask in magnitude_masks(weights, 0.5, "local").values():
        assert mask.tolist() == [False, False, True, True]


def test_the_layer_adaptive_score_is_the_papers_formula() -> None:
    random = np.random.default_rng(1)
    weights = {"a": random.normal(size=(5, 4)), "b": 100 * random.normal(size=(3, 3))}

    def score(weight: NDArray[Any]) -> NDArray[Any]:
        """Return w[u]^2 / sum of w[v]^2 over all v with |w[v]| >= |w[u]|, by a double loop."""
        flat = weight.reshape(-1)
        return np.array([w * w / sum(v * v for v in flat if abs(v) >= abs(w)) for w in flat]).reshape(weight.shape)

    scores = np.concatenate([score(weight).reshape(-1) for weight in weights.values()])
    expected = scores >= np.sort(scores)[round(len(scores) * 0.6)]
    masks = magnitude_masks(weights, 0.6, "lamp")
    assert np.concatenate([mask.reshape(-1) for mask in masks.values()]).tolist() == expected.tolist()
    assert all(mask.any() for mask in masks.values()), "no layer is emptied, however different their sizes"


@given(WEIGHTS, WEIGHTS, st.floats(0, 0.99), st.sampled_from(SCOPES))
def test_the_asked_share_goes_and_nothing_larger_than_what_stays(
    a: NDArray[Any], b: NDArray[Any], sparsity: float, scope: Scope
) -> None:
    masks = magnitude_masks({"a": a, "b": b}, sparsity, scope)
    dropped = sum(int((~mask).sum()) for mask in masks.values())
    wanted = (
        round(a.size * sparsity) + round(b.size * sparsity) if scope == "local" else round((a.size + b.size) * sparsity)
    )
    assert dropped == wanted
    for name, weight in (("a", a), ("b", b)):
        gone, kept = np.abs(weight[~masks[name]]), np.abs(weight[masks[name]])
        assert not gone.size or not kept.size or gone.max() <= kept.min()


@given(WEIGHTS, st.integers(1, 3), st.integers(0, 1))
def test_n_of_m_keeps_the_n_largest_of_every_m(weight: NDArray[Any], n: int, axis: int) -> None:
    m = 4
    mask = np.moveaxis(n_of_m_mask(weight, n, m, axis), axis, -1)
    values = np.moveaxis(np.abs(weight), axis, -1)
    for row, kept in zip(values, mask, strict=True):
        for start in range(0, len(row) // m * m, m):
            group, chosen = row[start : start + m], kept[start : start + m]
            assert chosen.sum() == n
            assert group[chosen].min() >= group[~chosen].max()
        assert kept[len(row) // m * m :].all()


def test_blocks_are_scored_by_their_root_mean_square() -> None:
    weight = np.array([[3.0, 4.0, 0.0, 0.0, 1.0], [1.0, 1.0, 2.0, 2.0, 5.0]])
    expected = [[12.5**0.5] * 2 + [0.0] * 2 + [1.0], [1.0] * 2 + [2.0] * 2 + [5.0]]
    assert np.allclose(block_scores(weight, 2, axis=1), expected)
    assert np.allclose(block_scores(weight.T, 2, axis=0), np.transpose(expected))


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (50, 0.8 * (1 - 0.125)), (100, 0.8), (170, 0.8)])
def test_the_gradual_schedule_is_a_cubic(step: int, expected: float) -> None:
    assert polynomial_sparsity(0.8, step, 100) == pytest.approx(expected)


def test_sparsity_counts_exact_zeros() -> None:
    assert sparsity_of({"a": np.array([0.0, 1.0]), "b": np.array([0.0, 0.0, 0.0, 1e-30])}) == pytest.approx(4 / 6)
    assert sparsity_of({}) == 0.0


def test_weights_that_stay_make_up_for_those_that_go() -> None:
    """Against NumPy's least squares on the samples themselves, row by row, for shared inputs and for inputs per row."""
    draw = np.random.default_rng(8)
    x = draw.normal(size=(3, 500, 5)) @ draw.normal(size=(3, 5, 20)) + draw.normal(size=(3, 500, 20), scale=0.3)
    rows = draw.normal(size=(3, 20))
    kept = draw.random(rows.shape) < 0.6
    for inputs in (x, x[:1]):
        moments = inputs.swapaxes(1, 2) @ inputs / 500
        found = make_up(rows, kept, moments)
        assert not found[~kept].any()
        for row, mask, values, own in zip(rows, kept, found, np.broadcast_to(inputs, x.shape), strict=True):
            ridge = np.sqrt(500 * MAKE_UP_DAMPING * np.square(own).mean())
            stacked = np.vstack([own, ridge * np.eye(20)])  # what damping means: weights that move cost, too
            wanted = np.linalg.lstsq(stacked[:, mask], stacked @ row, rcond=None)[0]
            np.testing.assert_allclose(values[mask], wanted, rtol=1e-2, atol=1e-3)


def test_inputs_that_never_move_change_no_weight() -> None:
    rows, kept = np.array([[1.0, 2.0, 3.0]]), np.array([[True, False, True]])
    np.testing.assert_array_equal(make_up(rows, kept, np.zeros((1, 3, 3))), [[1, 0, 3]])
