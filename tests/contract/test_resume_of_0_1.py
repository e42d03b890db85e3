"""A sweep that harness 0.1 began is finished by this one: nothing is repeated, and no cell becomes another."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter

import pytest

INVOCATIONS = 5
PASSES = {"init_cold": 1, "init_warm": 1, "latency": INVOCATIONS, "memory": 1}
"""What the spec of the interrupted sweep asks of each cell; LiteRT's Python benchmark has no operator profile."""
LITERT = "ai-edge-litert"


@pytest.fixture
def same_tool(resumable, monkeypatch):
    """Let LiteRT's benchmark have the version that it had: it is a tool's identity, and so part of a cell's key."""
    (card, *_) = (json.loads(row["card"]) for row in resumable.rows("variants") if row["card"])
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: card["libraries"][LITERT] if name == LITERT else version(name)
    )


def test_an_interrupted_sweep_is_finished_without_a_repeat(resumable, same_tool):
    sweep_id = resumable.sweeps["interrupted"]
    before = {table: resumable.rows(table) for table in ("cells", "invocations", "accuracies")}
    missing = _planned(resumable, sweep_id) - _stored(resumable, sweep_id)
    assert missing.total() == 6

    finished = resumable.run("sweep", "--resume", sweep_id, "--json")

    assert finished.code == 0, finished.err
    after = {table: resumable.rows(table) for table in before}
    added = after["invocations"][len(before["invocations"]) :]
    assert after["invocations"][: len(before["invocations"])] == before["invocations"]
    assert Counter(map(_place, added)) == missing
    assert {row["attempt"] for row in added} == {1}
    for table in ("cells", "accuracies"):
        assert after[table] == before[table], table
    assert _stored(resumable, sweep_id) == _planned(resumable, sweep_id)
    rows = finished.document["rows"]
    assert [row["sittings"] for row in rows] == ["1, 2", "1, 2"]
    assert {(row["variant"], row["verdict"], row["set_aside"]) for row in rows} == {
        ("as-is", "ranked", None),
        ("prune50-untrained", "ranked", None),
    }
    assert finished.document["sweep"]["status"] == "finished"
    (session,) = finished.document["sweep"]["host"]["carried_on"]
    assert session.keys() == {"started_at_utc", "host", "harness_version", "changes"}


def test_a_finished_sweep_that_is_resumed_measures_nothing(resumable, same_tool):
    before = resumable.rows("invocations")
    set_aside = _set_aside(resumable)
    assert set_aside

    finished = resumable.run("sweep", "--resume", resumable.sweeps["resumed"], "--json", "--fail-on", "none")

    assert finished.code == 0, finished.err
    assert resumable.rows("invocations") == before
    assert _set_aside(resumable) == set_aside


def _set_aside(stored):
    (host,) = (json.loads(row["host"]) for row in stored.rows("sweeps") if row["id"] == stored.sweeps["resumed"])
    return host["set_aside"]


def _place(row):
    return row["cell_key"], row["purpose"], row["invocation_index"]


def _stored(stored, sweep_id):
    return Counter(_place(row) for row in stored.rows("invocations") if row["sweep_id"] == sweep_id)


def _planned(stored, sweep_id):
    keys = [row["key"] for row in stored.rows("cells") if row["sweep_id"] == sweep_id]
    return Counter((key, purpose, index) for key in keys for purpose, count in PASSES.items() for index in range(count))
