"""Promise H14: each sign that outputs are wrong is enough alone, so that no other one must happen to see it too."""

import numpy as np
import pytest

from harness.accuracy.output_check import check_outputs
from harness.spec.limits import OutputLimits


def scores(seed=1, samples=50):
    """Class scores of so many samples; the last two classes of each are near the top, and nearly equal."""
    values = np.random.default_rng(seed).uniform(0.0, 0.1, (samples, 10)).astype(np.float32)
    values[:, 8], values[:, 9] = 0.501, 0.500
    return values


LIMITS = OutputLimits()


def check(output, expected, limits=LIMITS.floating):
    return check_outputs([output], [expected], limits, real_samples=True)


@pytest.mark.parametrize("limits", [LIMITS.floating, LIMITS.quantized])
def test_promise_h14_another_direction_is_wrong_even_where_all_numbers_are_small(limits):
    expected = np.full((50, 4), 0.001, np.float32)
    expected[:, 0] = 0.002
    expected[0] = (1.0, 0.0, 0.0, 0.0)  # beside one large sample, no error is large
    output = expected.copy()
    output[1:, 1:] *= -1
    found = check(output, expected, limits)
    assert found.max_abs_error < 0.01
    assert found.label_agreement == 1
    assert not found.passed


def test_promise_h14_another_size_is_wrong_even_in_the_same_direction():
    found = check(scores() * np.float32(1.5), scores())
    assert found.cosine_min == pytest.approx(1)
    assert found.label_agreement == 1
    assert not found.passed


def test_promise_h14_other_labels_are_wrong_even_where_the_scores_are_near():
    output = scores()
    output[:10, [8, 9]] = output[:10, [9, 8]]
    found = check(output, scores())
    assert found.cosine_min > LIMITS.floating.cosine_min
    assert found.max_abs_error < 0.01
    assert found.label_agreement == pytest.approx(0.8)
    assert not found.passed


def test_promise_h14_zeros_and_what_is_no_number_are_told_as_such():
    zeros, no_number = np.zeros_like(scores()), scores()
    no_number[3, 3] = np.inf
    assert check(zeros, scores()).all_zero
    assert check(no_number, scores()).not_finite
    assert not check(scores(), scores()).all_zero
    assert not check(scores(), scores()).not_finite
