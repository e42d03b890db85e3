"""Every definition and code that `promises.toml` would change exists, so that it cannot rot unseen."""

from collections import Counter
from pathlib import Path

import pytest
from promises import ROOT, mutated, read_mutations

from harness.analysis.promises import promise_titles

MUTATIONS = read_mutations()
NAMES = [f"H{mutation.promise} {mutation.mechanism}" for mutation in MUTATIONS]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_mutation_changes_one_place_and_leaves_python(mutation):
    file, after = mutated(ROOT, mutation)
    assert after != Path(file).read_text()
    compile(after, file, "exec")


def test_every_promise_has_a_mechanism_that_can_be_switched_off():
    assert {mutation.promise for mutation in MUTATIONS} == set(promise_titles())
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []
