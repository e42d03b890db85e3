"""The search for the rate that all stages keep up with, against pipelines whose best rate is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.partition.trial import best_rate


class Pipeline:
    """Keeps up with rates to `best`; offered more, it reaches what is `lost` less than that."""

    def __init__(self, best, lost=0.2):
        self.best, self.lost, self.offered = best, lost, []

    def attempt(self, rate):
        self.offered.append(rate)
        return rate if rate <= self.best else self.best * (1 - self.lost)


@given(st.floats(50, 100))
def test_the_best_rate_is_found(best):
    pipeline = Pipeline(best)
    found = best_rate(50, 100, pipeline.attempt)
    assert found <= best
    assert found == pytest.approx(best, rel=0.07)
    assert len(pipeline.offered) <= 4


def test_what_was_reached_is_never_forgotten():
    assert best_rate(80, 100, lambda rate: 1.0) == 80


def test_bounds_that_agree_need_no_search():
    assert best_rate(98, 100, lambda rate: pytest.fail("nothing is to be tried")) == 98
