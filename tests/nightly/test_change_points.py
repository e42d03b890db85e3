"""Steps in a series of nights: found soon, at their place, and not in noise."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.history.change_points import FEWEST_NIGHTS, find_level_shifts

NOISE = 0.03


def series(seed, *levels, noise=NOISE):
    """Nights around levels, each given as (nights, level)."""
    generator = np.random.default_rng(seed)
    logs = np.concatenate([np.full(nights, np.log(level)) for nights, level in levels])
    return list(np.exp(logs + generator.normal(0, noise, len(logs))))


def test_a_step_is_found_at_its_place():
    (step,) = find_level_shifts(series(1, (30, 1000), (30, 1100)))
    assert step.earliest <= 30 <= step.latest
    assert abs(step.at - 30) <= 2


def test_a_slowdown_that_was_mended_again_is_found_with_both_ends():
    begin, end = find_level_shifts(series(2, (26, 1000), (8, 1120), (26, 1000)))
    assert begin.earliest <= 26 <= begin.latest
    assert end.earliest <= 34 <= end.latest


def test_noise_of_three_percent_gives_no_step():
    assert sum(bool(find_level_shifts(series(seed, (60, 1000)))) for seed in range(100)) <= 1


def test_a_step_of_five_percent_is_found_within_three_weeks_in_most_cells():
    found = sum(bool(find_level_shifts(series(seed, (30, 1000), (21, 1050)))) for seed in range(40))
    assert found >= 30


@pytest.mark.parametrize("place", [0, 1, 30, 58, 59])
def test_one_or_two_nights_out_of_line_are_no_step(place):
    nights = series(3, (60, 1000), noise=0.01)
    for night in (place, place + 1):
        if night < len(nights):
            nights[night] *= 7
    assert find_level_shifts(nights) == []


def test_a_night_seven_times_as_slow_does_not_hide_a_step():
    nights = series(4, (30, 1000), (30, 1100))
    nights[10] *= 7
    (step,) = find_level_shifts(nights)
    assert abs(step.at - 30) <= 2


@pytest.mark.parametrize("nights", [[], [1.0], [1.0] * 5, [1.0] * 60, [1.0, 2.0] * 2])
def test_too_few_nights_and_equal_nights_have_no_step(nights):
    assert find_level_shifts(nights) == []


def test_two_levels_without_any_noise_are_one_step():
    (step,) = find_level_shifts([1000.0] * 20 + [1001.0] * 20)
    assert (step.earliest, step.at, step.latest) == (20, 20, 20)


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        find_level_shifts([1.0, float("nan")] * 5)


latencies = st.lists(st.floats(1, 1e6), min_size=0, max_size=40)


@given(latencies)
def test_steps_come_in_order_with_enough_nights_between(nights):
    steps = find_level_shifts(nights)
    edges = [0, *(step.at for step in steps), len(nights)]
    if steps:
        assert all(b - a >= FEWEST_NIGHTS for a, b in itertools.pairwise(edges))
    assert all(step.earliest <= step.at <= step.latest for step in steps)


@given(latencies, st.floats(0.001, 1000))
def test_the_unit_does_not_matter(nights, factor):
    order = np.argsort(np.argsort(nights, kind="stable"), kind="stable")
    distinct = [float(rank + 1) for rank in order]  # so that a factor cannot round two values into one
    assert find_level_shifts(distinct) == find_level_shifts([value * factor for value in distinct])


@given(st.integers(0, 1000))
def test_backwards_the_same_steps_are_found(seed):
    nights = series(seed, (15, 1000), (15, 1200))
    forward, backward = find_level_shifts(nights), find_level_shifts(nights[::-1])
    assert [step.at for step in forward] == [len(nights) - step.at for step in reversed(backward)]
