"""Whatever process of a sweep is killed, it comes to the same table: one round a kind of `benchmarks/kill_any.py`.

The tool is a stand-in, so that a round is short; the moments are drawn from a seed.
"""

import importlib
import secrets
import sys
from pathlib import Path

import pytest
from scripted_tool import forget_tools, register_scripted_tool

pytestmark = [pytest.mark.virtual_phone, pytest.mark.timeout(1500)]  # all rounds are one fixture

KINDS = ("harness", "compression worker", "adb server", "tool on the phone", "adbd", "PostgreSQL", "dask scheduler",
         "dask worker")  # fmt: skip


@pytest.fixture(scope="module")
def rounds(phone_ready, adb, postgresql, tmp_path_factory):
    """What one kill of each kind did, by the kind."""
    pytest.importorskip("distributed", reason="dask (pip install 'harness[lab]')")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    kill_any = importlib.import_module("kill_any")
    sys.path.pop(0)
    folder = tmp_path_factory.mktemp("killed")
    register_scripted_tool(folder / "tool", "sleep 0.3")
    victims = [*kill_any.VICTIMS, kill_any.postgresql_as_victim(postgresql), *kill_any.OF_A_LAB]
    with kill_any.witnessed_phone() as phone:
        made, _ = kill_any.kill_often(
            phone, folder / "rounds", rounds=len(victims), seed=2, victims=victims, spec=kill_any.SHORT_SPEC,
            database=lambda _: postgresql.new_database(f"kill_{secrets.token_hex(4)}"),
        )  # fmt: skip
    yield {one.victim: one for one in made}
    forget_tools()


@pytest.mark.parametrize("kind", KINDS)
def test_promise_h21_a_killed_process_changes_nothing_but_time(rounds, kind):
    assert rounds[kind].killed
    assert rounds[kind].is_kept, rounds[kind]
