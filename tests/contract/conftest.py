"""The store that harness 0.1 left, once for all tests that only read it."""

from pathlib import Path

import pytest
from stored import Stored, unpack


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """The fixtures, for commands that change nothing."""
    return unpack(tmp_path_factory.mktemp("stored-by-0.1"))


@pytest.fixture
def resumable(tmp_path: Path) -> Stored:
    """The fixtures as if this computer's system had made them, for one test that may change them."""
    stored = unpack(tmp_path)
    stored.move_to_this_computer()
    return stored
