"""Killed sweeps leave no knob turned and lose nothing finished: a few rounds of `kills.py`."""

import importlib.util
import signal
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.virtual_phone, pytest.mark.official_tool, pytest.mark.slow]


@pytest.fixture(scope="module")
def kills():
    """The benchmark as a module."""
    file = Path(__file__).with_name("kills.py")
    spec = importlib.util.spec_from_file_location("kills", file)
    module = sys.modules["kills"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def phone(kills, registered_tools, phone_ready, adb):
    with kills.witnessed_phone() as phone:
        yield phone


def test_promise_h21_a_sweep_killed_at_random_moments_loses_and_repeats_nothing(kills, phone, tmp_path):
    rounds, _ = kills.kill_often(phone, tmp_path, rounds=3, seed=4, delegates=["cpu-builtin"])
    assert [one.signal for one in rounds] == ["SIGINT", "SIGTERM", "SIGKILL"]
    for one in rounds:
        assert one.is_kept, one


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_promise_h4_a_sweep_that_is_asked_to_end_gives_the_phone_back_itself(kills, phone, tmp_path, ending):
    before = kills.knobs(phone)
    sweep = kills.Sweep(phone, tmp_path / "sweep")
    process = sweep.start()
    deadline = time.monotonic() + 120
    while "begun" not in sweep.witness():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert kills.changed(before, kills.knobs(phone))
    process.send_signal(ending)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 4, said
    assert kills.changed(before, kills.knobs(phone)) == []
