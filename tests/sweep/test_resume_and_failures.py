"""Promises H12, H20, H21: flags are asked for once, a failure is a value, and resume repeats only what is another."""

import pytest
from results_examples import SWEEP
from scripted_sweep import OneTool, ScriptedSweep

from harness.benchmark.registry import ToolRegistry
from harness.devices.adb.discovery import open_device

pytestmark = pytest.mark.virtual_phone

HELP = """
case "$*" in --help)
  echo asked >>/data/asked
  printf '\\t--%s=\\n' graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_xnnpack
  exit 1
esac
"""
"""A tool that knows no GPU."""


@pytest.fixture
def device(start_phone):
    return open_device(start_phone().serial)


def said_on(device, file):
    return device.run(["cat", file], timeout_s=9).stdout.split()


class RememberingTool(OneTool):
    """A registry that writes down the flags of its one tool, as the real one does."""

    def __init__(self, tool, folder):
        super().__init__(tool)
        self.remembering = ToolRegistry(folder)

    def remember_flags(self, tool, flags):
        return self.remembering.remember_flags(tool, flags)


def test_promise_h12_a_tool_is_asked_for_its_flags_once_and_before_it_is_used(device, tmp_path):
    sweep = ScriptedSweep(tmp_path, HELP, delegates=["cpu", "gpu"])
    sweep._tool = sweep._tool.model_copy(update={"flags": None})
    registry = RememberingTool(sweep._tool, tmp_path / "tools")
    sweep.registry = registry
    sweep.run(device)
    delegates = {cell["key"]: cell["delegate"] for cell in sweep.cells}
    failures = {delegates[row["cell_key"]]: row["failure_class"] for row in sweep.invocations}
    assert failures == {"cpu": None, "gpu": "tool_rejected_flag"}
    assert said_on(device, "/data/asked") == ["asked"]
    (known,) = registry.remembering.tools()
    assert known.sha256 == sweep._tool.sha256
    assert "use_xnnpack" in known.flags
    sweep.registry = RememberingTool(known, tmp_path / "tools")
    sweep.run(device)
    assert said_on(device, "/data/asked") == ["asked"]


def test_promise_h20_a_process_that_fails_is_a_row_with_its_class_and_the_sweep_goes_on(device, tmp_path):
    crash = 'case "$*" in *use_gpu=true*) kill -SEGV $$ ;; esac'
    sweep = ScriptedSweep(tmp_path, crash, delegates=["gpu", "cpu"]).run(device)
    delegates = {cell["key"]: cell["delegate"] for cell in sweep.cells}
    by_delegate = {
        name: [row for row in sweep.invocations if delegates[row["cell_key"]] == name] for name in ("gpu", "cpu")
    }
    assert {row["failure_class"] for row in by_delegate["gpu"]} == {"crashed"}
    assert "SIGSEGV" in by_delegate["gpu"][0]["failure_message"]
    assert [row["failure_class"] for row in by_delegate["cpu"]] == [None] * 5


def test_promise_h21_resume_repeats_nothing_that_is_done(device, tmp_path):
    count = "n=$(($(cat /data/count 2>/dev/null) + 1)); echo $n >/data/count"
    sweep = ScriptedSweep(tmp_path, count, measurement={"invocations": 6, "memory_invocations": 0})
    stop_after(sweep, 2)
    sweep.run(device)
    before = sweep.invocations
    assert [row["invocation_index"] for row in before] == [0, 1]
    sweep.stop.clear()
    sweep.run(device)
    assert sweep.invocations[:2] == before
    assert [row["invocation_index"] for row in sweep.invocations] == list(range(6))
    assert said_on(device, "/data/count") == ["6"]


def test_promise_h21_what_has_another_content_is_another_cell_and_is_measured(device, tmp_path):
    sweep = ScriptedSweep(tmp_path).run(device)
    (variant,) = sweep.variants
    sweep.variants = [variant.__class__(variant.path, variant.card.model_copy(update={"sha256": "f" * 64}))]
    sweep.run(device)
    assert len(sweep.cells) == 2
    assert len(sweep.invocations) == 10
    assert len({key for key, _, _ in sweep.store.done(SWEEP)}) == 2


def stop_after(sweep, count):
    """Interrupt as Ctrl-C does once so many invocations are stored."""
    add, stored = sweep.store.add_invocation, []

    def add_and_count(sweep_id, cell_key, finished):
        add(sweep_id, cell_key, finished)
        stored.append(finished.index)
        if len(stored) == count:
            sweep.stop.set()

    sweep.store.add_invocation = add_and_count
