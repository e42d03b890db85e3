"""Fixtures of the tests of sweeps."""

from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def clock():
    """A clock that is a second later at each look."""
    start, looks = datetime(2026, 11, 24, 1, 0, 0, tzinfo=UTC), []

    def now():
        looks.append(None)
        return start + timedelta(seconds=len(looks))

    return now
