"""`docs/measurement.md` names a mechanism and a test for every promise that it says is kept."""

import re
from pathlib import Path

import pytest

from harness.analysis.promises import promise_titles

ROOT = Path(__file__).parents[2]
ROWS = {
    int(line.split("|")[1].strip().removeprefix("H")): [part.strip() for part in line.split("|")[2:-1]]
    for line in (ROOT / "docs" / "measurement.md").read_text().splitlines()
    if re.match(r"\| H\d+ \|", line)
}
"""By number: title, kept, mechanism, tests, what does not work."""
TESTS = set(
    re.findall(r"^def (test_\w+)", "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py")), re.M)
)


def test_every_promise_has_its_line_under_its_own_title():
    assert {number: row[0] for number, row in ROWS.items()} == promise_titles()
    assert list(ROWS) == sorted(promise_titles())


@pytest.mark.parametrize("number", ROWS)
def test_what_is_said_to_be_kept_names_tests_and_code_that_exist(number):
    _, kept, mechanism, tests, gaps = ROWS[number]
    assert kept in ("yes", "partly", "no")
    named = re.findall(r"`(\w+)`", tests)
    assert bool(named) == (kept != "no")
    for name in named:
        assert name.startswith(f"test_promise_h{number}_")
        assert name in TESTS
    for place in re.findall(r"`(harness/[\w/.]+)`", mechanism):
        assert (ROOT / place).exists(), place
    assert gaps or kept == "yes"


@pytest.mark.parametrize("number", ROWS)
def test_k_promise_finds_a_test_of_every_promise(number):
    assert any(name.startswith(f"test_promise_h{number}_") for name in TESTS)
