"""A benchmark program that harness has never heard of: registered here, and nothing else changes."""

from pathlib import PurePosixPath

import pytest
from results_examples import SWEEP
from rich.console import Console
from scripted_sweep import OneTool, ScriptedSweep

from harness.analysis.summary import summarize
from harness.benchmark import program as programs
from harness.benchmark.invocation import Delegation, InvocationRequest, Measurement
from harness.benchmark.invoke import invoke
from harness.benchmark.program import BenchmarkProgram, Feature, addable_families, can, families, push_tool, register
from harness.benchmark.registry import probe_flags
from harness.benchmark.tool import Tool, ToolSystem
from harness.devices.adb.discovery import open_device
from harness.devices.host import HostDevice
from harness.errors import Failure, FailureClass, FailureError, UsageError
from harness.files import sha256_of
from harness.report.terminal.sweep_table import sweep_table
from harness.virtual_phone.recording import host_abi

FAMILY = "toybench"
SCRIPT = """\
if [ "$1" = --help ]; then
  echo "toybench takes: model runs"
  exit 1
fi
read -r load_us <"$TOYBENCH_HOME/toybench.conf" || exit 3
sleep 0.05
echo "load $load_us"
echo "timed $2 times, {mean} us each"
"""


class Toybench(BenchmarkProgram):
    """A program with a file beside it, an environment, a command line and an output of its own."""

    name = "toybench"
    families = (FAMILY,)

    def probe(self, help_text):
        _, mark, flags = help_text.partition("toybench takes: ")
        return frozenset(flags.split()) if mark else frozenset()

    def files(self, tool):
        return [tool.path.parent / "toybench.conf"]

    def environment(self, _tool, tool_path):
        return {"TOYBENCH_HOME": str(PurePosixPath(tool_path).parent)}

    def arguments(self, _tool, tool_path, request):
        if request.delegate != "cpu":
            raise FailureError(Failure(FailureClass.DELEGATE_UNAVAILABLE, "Toybench has no delegates."))
        return [tool_path, request.model, str(request.runs)]

    def judge(self, result, request):
        load, timed = result.stdout.splitlines()
        _, runs, _, mean_us, *_ = timed.split()
        return Measurement(
            delegation=Delegation(request.delegate, "cpu", fell_back=False),
            runs=int(runs),
            latency_avg_us=float(mean_us),
            latency_min_us=None,
            latency_max_us=None,
            latency_std_us=None,
            latency_median_us=None,
            init_us=float(load.split()[1]),
            first_inference_us=None,
            memory_init_mb=None,
            memory_overall_mb=None,
            peak_memory_mb=None,
        )


class Registry(OneTool):
    """A registry that also remembers what the tool listed."""

    def remember_flags(self, tool, flags):
        self._tool = tool.model_copy(update={"flags": frozenset(flags)})
        return self._tool


@pytest.fixture
def toybench(monkeypatch):
    """Register the program for the length of one test."""
    monkeypatch.setattr(programs, "_registered", {})
    register(Toybench())


def write_tool(folder, system, shell, mean="1234.5"):
    folder.mkdir()
    (folder / "toybench.conf").write_text("5000\n")
    script = folder / "toybench"
    script.write_text(f"#!{shell}\n{SCRIPT.format(mean=mean)}")
    script.chmod(0o755)
    return Tool(
        name="toybench",
        family=FAMILY,
        system=system,
        abi=host_abi(),
        sha256=sha256_of(script),
        path=script,
        origin="test",
    )


def test_it_is_found_beside_the_programs_that_come_with_harness(toybench):
    assert families() == ["interpreter", "compiled-model", "litert-python", FAMILY]
    assert addable_families() == ["interpreter", "compiled-model", FAMILY]


def test_a_family_that_no_program_serves_is_refused(tmp_path):
    tool = write_tool(tmp_path / "toybench", ToolSystem.LINUX, "/bin/sh")
    with pytest.raises(UsageError, match="Cannot use a tool of the family 'toybench': no program serves it"):
        can(tool, Feature.OP_PROFILE)


def test_it_is_probed_and_run_on_this_host(toybench, tmp_path):
    host = HostDevice(tmp_path / "work")
    tool = write_tool(tmp_path / "toybench", ToolSystem.LINUX, "/bin/sh")
    path = push_tool(host, tool)
    assert probe_flags(host, tool, path) == {"model", "runs"}
    measured = invoke(host, tool, path, InvocationRequest("/m", "cpu", runs=7), timeout_s=20).measurement
    assert (measured.runs, measured.latency_avg_us, measured.init_us) == (7, 1234.5, 5000)
    refused = invoke(host, tool, path, InvocationRequest("/m", "gpu"), timeout_s=20)
    assert refused.failure.failure_class is FailureClass.DELEGATE_UNAVAILABLE


def test_another_binary_does_not_pass_for_it(toybench, tmp_path):
    host = HostDevice(tmp_path / "work")
    tool = write_tool(tmp_path / "toybench", ToolSystem.LINUX, "/bin/sh")
    tool.path.write_text("#!/bin/sh\necho usage: another program\n")
    with pytest.raises(FailureError, match="does not answer --help like a toybench") as refused:
        probe_flags(host, tool, push_tool(host, tool))
    assert refused.value.failure.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        ("quite a few", "Cannot read the output of toybench: ValueError"),
        ("0", "toybench printed a latency of 0 us"),
        ("nan", "toybench printed a latency of nan us"),
    ],
)
def test_output_that_cannot_be_read_is_a_failure_and_never_a_number(toybench, tmp_path, mean, message):
    host = HostDevice(tmp_path / "work")
    tool = write_tool(tmp_path / "toybench", ToolSystem.LINUX, "/bin/sh", mean)
    found = invoke(host, tool, push_tool(host, tool), InvocationRequest("/m", "cpu"), timeout_s=20)
    assert found.measurement is None
    assert found.failure.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
    assert message in found.failure.message
    assert mean in found.log


@pytest.mark.virtual_phone
class TestASweepOnAVirtualPhone:
    def sweep(self, folder, serial, mean="1234.5"):
        sweep = ScriptedSweep(folder)
        tool = write_tool(folder / "toybench", ToolSystem.VIRTUAL_PHONE, "/system/bin/sh", mean)
        sweep.registry = Registry(tool)
        return sweep.run(open_device(serial))

    def test_is_probed_measured_stored_and_shown(self, toybench, virtual_phone, tmp_path):
        sweep = self.sweep(tmp_path, virtual_phone.serial)
        assert [row["latency_avg_us"] for row in sweep.invocations] == [1234.5] * 5
        assert {row["init_us"] for row in sweep.invocations} == {5000}
        (stored,) = sweep.store.tools(SWEEP)
        assert (stored.family, sorted(stored.facts["flags"])) == (FAMILY, ["model", "runs"])
        rows = summarize(sweep.store, SWEEP)
        assert [(row.verdict, row.latency_median_us) for row in rows] == [("unchecked", 1234.5)]  # it writes no outputs
        console = Console(width=200)
        with console.capture() as shown:
            console.print(sweep_table(rows))
        assert "1.23" in shown.get()

    def test_ends_with_a_failure_where_the_output_cannot_be_read(self, toybench, virtual_phone, tmp_path):
        sweep = self.sweep(tmp_path, virtual_phone.serial, mean="quite a few")
        assert {row["failure_class"] for row in sweep.invocations} == {"tool_output_unreadable"}
        (row,) = summarize(sweep.store, SWEEP)
        assert (row.failure_class, row.latency_median_us) == ("tool_output_unreadable", None)
