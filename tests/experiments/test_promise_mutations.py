"""Every text that `promises.toml` would change exists in the code, so that it cannot rot unseen."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MUTATIONS = tomllib.loads((ROOT / "tests" / "experiments" / "promises.toml").read_text())["mutation"]
NAMES = [f"H{mutation['promise']} {mutation['mechanism']}" for mutation in MUTATIONS]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_mutation_changes_one_place_and_leaves_python(mutation):
    before = (ROOT / mutation["file"]).read_text()
    assert before.count(mutation["text"]) == 1, f"{mutation['file']} has changed: bring promises.toml up to date"
    after = before.replace(mutation["text"], mutation["replacement"])
    assert after != before
    compile(after, mutation["file"], "exec")


def test_every_promise_has_a_mechanism_that_can_be_switched_off():
    assert {mutation["promise"] for mutation in MUTATIONS} == set(range(1, 23))
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []
