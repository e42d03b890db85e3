"""Whichever process of a sweep is killed, the table is the same: a round of some kinds of `kill_any.py`.

The tool is a stand-in, so that a round is short; the moments are drawn from a seed.
"""

import importlib
import secrets
from pathlib import Path

import pytest
from scripted_tool import forget_tools, register_scripted_tool

pytestmark = [pytest.mark.virtual_phone, pytest.mark.timeout(900), pytest.mark.slow]

KINDS = ("compression worker", "PostgreSQL")
"""Those whose end in mid-sweep no other test brings about; the benchmark kills all."""


@pytest.fixture
def kill_any(monkeypatch):
    pytest.importorskip("distributed", reason="dask (pip install 'harness[lab]')")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("kill_any")


def test_promise_h21_a_killed_process_changes_nothing_but_time(kill_any, phone_ready, adb, postgresql, tmp_path):
    register_scripted_tool(tmp_path / "tool", "sleep 0.3")
    every = [*kill_any.VICTIMS, kill_any.postgresql_as_victim(postgresql)]
    victims = [victim for victim in every if victim.name in KINDS]
    with kill_any.witnessed_phone() as phone:
        rounds, _ = kill_any.kill_often(
            phone,
            tmp_path / "rounds",
            rounds=len(victims),
            seed=2,
            victims=victims,
            spec=kill_any.SHORT_SPEC,
            database=lambda _: postgresql.new_database(f"kill_{secrets.token_hex(4)}"),
        )
    forget_tools()
    assert [one.victim for one in rounds if one.killed] == list(KINDS)
    assert all(one.is_kept for one in rounds), rounds
