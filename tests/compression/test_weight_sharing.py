"""Few values for many weights: k-means against a reference, and what int8 keeps of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from harness.compression.weights.clusters import kmeans_1d, share
from harness.compression.weights.rounding import quantize_weight

WEIGHTS = arrays(np.float32, (4, 12), elements=st.floats(-3, 3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3))


def test_kmeans_is_lloyds_algorithm_from_a_linear_start() -> None:
    samples = np.random.default_rng(2).exponential(size=300)
    centres = np.linspace(samples.min(), samples.max(), 7)
    for _ in range(100):  # a plain reference: assign to the nearest, move to the mean
        nearest = np.abs(samples[:, None] - centres[None]).argmin(1)
        centres = np.array([samples[nearest == k].mean() if (nearest == k).any() else centres[k] for k in range(7)])
    assert np.allclose(kmeans_1d(samples, 7), centres)


def test_separate_groups_become_their_means() -> None:
    assert np.allclose(kmeans_1d(np.array([0.1, 0.12, 0.5, 0.52, 0.9]), 3), [0.11, 0.51, 0.9])


@given(WEIGHTS, st.sampled_from([3, 5, 16, 33]))
def test_values_are_few_zeros_stay_and_signs_too(weight: NDArray[Any], values: int) -> None:
    shared = share(weight, values, reduced_axes=(1,))
    found = shared.values()
    assert ((weight == 0) == (found == 0)).all()
    assert (np.sign(found) == np.sign(weight)).all()
    assert len(np.unique(shared.cluster * shared.sign)) <= values
    assert np.allclose(found, shared.sign * shared.scale * shared.magnitudes[shared.cluster], atol=1e-6)


@given(WEIGHTS, st.sampled_from([5, 16]))
def test_int8_codes_with_one_scale_a_channel_keep_the_few_values(weight: NDArray[Any], values: int) -> None:
    """Folding of batch normalization multiplies whole channels: the codes must not change by it."""
    found = share(weight, values, reduced_axes=(1,)).values()
    folded = found * np.array([[0.01], [1.0], [-7.0], [300.0]])
    codes, _ = quantize_weight(folded.astype(np.float32), 8, axis=0, rule="largest")
    assert len(np.unique(np.abs(codes))) <= (values - 1) // 2 + 1


def test_more_values_than_weights_change_nothing() -> None:
    weight = np.array([[0.5, -0.25, 0.0, 1.0]], np.float32)
    assert np.allclose(share(weight, 255, reduced_axes=(1,)).values(), weight)


def test_a_tensor_of_zeros_stays() -> None:
    assert not share(np.zeros((2, 3), np.float32), 16, reduced_axes=(1,)).values().any()


def test_costly_samples_draw_the_centres() -> None:
    draw = np.random.default_rng(3)
    samples, counts = draw.exponential(size=60), draw.integers(1, 6, size=60)
    repeated = np.repeat(samples, counts)  # a sample that costs three times as much is one that is there three times
    assert np.allclose(kmeans_1d(samples, 5, counts), kmeans_1d(repeated, 5))


def _moments(inputs: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(400, inputs // 4)) @ draw.normal(size=(inputs // 4, inputs))
    x += draw.normal(size=x.shape, scale=0.1)
    return x, (x.T @ x / len(x))[None]


@pytest.mark.parametrize("reduced_axes", [(1,), (0, 1)], ids=["scale per channel", "scale per tensor"])
def test_with_moments_outputs_are_nearer_and_values_as_few(reduced_axes: tuple[int, ...]) -> None:
    x, moments = _moments(64, seed=4)
    weight = np.random.default_rng(5).normal(size=(16, 64))
    weight[:, ::5] = 0
    errors = []
    for known in (moments, None):
        shared = share(weight, 9, reduced_axes=reduced_axes, moments=known)
        assert shared.clusters <= 5, "zero and four magnitudes"
        assert not shared.values()[weight == 0].any()
        assert len(np.unique(np.abs(shared.values() / shared.scale).round(5))) <= 5
        errors.append(np.square(x @ (shared.values() - weight).T).mean())
    assert errors[0] < errors[1] / 3


def test_each_depthwise_channel_goes_by_its_own_inputs() -> None:
    pairs = [_moments(12, seed) for seed in range(6)]
    moments = np.concatenate([moments for _, moments in pairs])
    kernel = np.random.default_rng(6).normal(size=(1, 3, 4, 6))
    errors = []
    for known in (moments, None):
        found = share(kernel, 7, reduced_axes=(0, 1, 2), moments=known, output_axis=3).values()
        difference = (found - kernel).reshape(12, 6)
        errors.append(sum(np.square(x @ difference[:, place]).mean() for place, (x, _) in enumerate(pairs)))
    assert errors[0] < errors[1] / 1.5
