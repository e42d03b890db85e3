"""Real processes of the official tool, and of LiteRT's Python benchmark, on this host and on a virtual phone."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.benchmark.invocation import STREAM_MARK, InputFile, InvocationRequest, Pass
from harness.benchmark.invoke import invoke
from harness.benchmark.registry import ToolRegistry, probe_flags
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.devices.adb.discovery import open_device
from harness.devices.device import DeviceFacts, DeviceKind
from harness.devices.host import HostDevice
from harness.errors import DeviceError, Failure, FailureClass, FailureError

DATA = Path(__file__).parent / "data"
MODEL = DATA / "pooled-float.tflite"
"""Six operators, [1, 14, 14, 1] to [1, 10], float32."""
TWO_INPUTS = DATA / "two-inputs.tflite"
"""Inputs `second`, `first`: [1, 4, 4, 2] each; outputs first - second, and their sum averaged over height and width."""
HOSTILE_NAME = "a b $(touch pwned) `id` 'q' \"d\" : ü 模型, x=1;.tflite"
TIME_LIMIT_S = 120


@pytest.fixture
def host(tmp_path):
    return HostDevice(tmp_path / "work")


@pytest.fixture
def tools(tmp_path, official_tools):
    registry = ToolRegistry(tmp_path / "tools")
    return {tool.system: tool for tool in registry.add(official_tools)}


@pytest.fixture
def run(host, tools):
    """Run the official tool on this host, with its flags probed first."""
    tool = tools[ToolSystem.LINUX]
    tool = tool.model_copy(update={"flags": probe_flags(host, tool, str(tool.path))})

    def run_tool(model=MODEL, delegate="cpu", *, timeout_s=TIME_LIMIT_S, changes=None, **request):
        used = tool.model_copy(update=changes or {})
        return invoke(
            host, used, str(used.path), InvocationRequest(str(model), delegate, **request), timeout_s=timeout_s
        )

    return run_tool


@pytest.fixture
def litert(host, tmp_path):
    facts = DeviceFacts("host", DeviceKind.HOST, executable_abis=("x86_64",))
    tool = ToolRegistry(tmp_path / "no-tools").choose(facts)
    assert tool.family == ToolFamily.LITERT_PYTHON

    def run_benchmark(model=MODEL, delegate="cpu", *, timeout_s=TIME_LIMIT_S, **request):
        return invoke(
            host, tool, str(tool.path), InvocationRequest(str(model), delegate, **request), timeout_s=timeout_s
        )

    return run_benchmark


class PhoneThatIsGone:
    """A device to which every connection fails."""

    work_folder = "/data/local/tmp/harness"

    def run(self, arguments, *, timeout_s, environment=None):
        raise DeviceError(Failure(FailureClass.DEVICE_LOST, "S: it is not attached.", "device 'S' not found"))


def test_promise_h20_a_phone_that_goes_away_is_a_failure_of_the_invocation_and_raises_nothing():
    tool = Tool(
        name="t",
        family=ToolFamily.INTERPRETER,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="0" * 64,
        path="/t",
        origin="test",
    )
    invocation = invoke(PhoneThatIsGone(), tool, "/t", InvocationRequest("/m", "cpu"), timeout_s=1)
    assert invocation.measurement is None
    assert invocation.failure.failure_class is FailureClass.DEVICE_LOST
    assert invocation.failure.evidence == "device 'S' not found"
    assert "--graph=/m" in invocation.command


@pytest.mark.official_tool
class TestOnTheHost:
    def test_cpu_runs_on_xnnpack_and_every_node_is_counted(self, run):
        invocation = run(runs=20)
        measured = invocation.measurement
        assert invocation.failure is None
        assert measured.runs == 20
        assert measured.latency_avg_us > 0
        assert measured.init_us > 0
        assert (measured.delegation.achieved, measured.delegation.fell_back) == ("cpu", False)
        assert measured.delegation.delegated_nodes == measured.delegation.total_nodes == 6
        assert STREAM_MARK in invocation.log
        assert "count=20" in invocation.log

    def test_builtin_kernels_are_told_from_xnnpack(self, run):
        assert run(delegate="cpu-builtin").measurement.delegation.achieved == "cpu-builtin"

    def test_the_memory_pass_has_a_peak(self, run):
        ballast = bytearray(b"x" * 300_000_000)  # Linux would let the tool inherit it
        memory = run(purpose=Pass.MEMORY)
        del ballast
        (resident,) = re.findall(r"VmRSS +: (\d+) MB", memory.log)
        assert 1 < memory.measurement.peak_memory_mb < 2 * float(resident)
        assert run().measurement.peak_memory_mb is None

    def test_nnapi_on_linux_is_a_measurement_of_the_cpu_that_says_so(self, run):
        delegation = run(delegate="nnapi").measurement.delegation
        assert (delegation.requested, delegation.achieved, delegation.fell_back) == ("nnapi", "cpu", True)
        assert "unsupported on this platform" in delegation.reason

    def test_any_file_name_survives(self, run, tmp_path):
        hostile = tmp_path / HOSTILE_NAME
        shutil.copy(MODEL, hostile)
        assert run(hostile).failure is None
        assert [path.name for path in tmp_path.rglob("pwned")] == []

    def test_real_inputs_go_in_by_position_and_outputs_come_out(self, run, tmp_path):
        generator = np.random.default_rng(1)
        second, first = generator.random((2, 1, 4, 4, 2), dtype=np.float32)
        files = []
        for name, values in (("second: a,b", second), ("first", first)):
            path = tmp_path / f"{name} (1): $HOME.bin".replace(",", " ")
            path.write_bytes(values.tobytes())
            files.append(InputFile(name, values.shape, str(path)))
        output = tmp_path / "out put: 'o'.bin"
        invocation = run(TWO_INPUTS, inputs=tuple(files), output_file=str(output), runs=1, warmup_runs=0)
        assert output.exists(), invocation.failure
        values = np.frombuffer(output.read_bytes(), np.float32)
        expected = np.concatenate([(first - second).ravel(), (first + second).mean(axis=(1, 2)).ravel()])
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "content", [b"", b"<html>404</html>" * 100, MODEL.read_bytes()[:4000], None], ids=["empty", "page", "cut", "no"]
    )
    def test_a_bad_model_file_is_called_so(self, run, tmp_path, content):
        model = tmp_path / "bad.tflite"
        if content is not None:
            model.write_bytes(content)
        failure = run(model).failure
        assert failure.failure_class is FailureClass.INVALID_MODEL
        assert failure.evidence

    def test_a_bad_input_file_is_called_so(self, run, tmp_path):
        short = tmp_path / "short.bin"
        short.write_bytes(b"1234")
        failure = run(inputs=(InputFile("x", (1, 14, 14, 1), str(short)),)).failure
        assert failure.failure_class is FailureClass.TOOL_REJECTED_FLAG
        assert "bytes" in failure.evidence

    def test_a_tool_that_does_not_end_is_stopped(self, run):
        invocation = run(runs=10**9, max_s=600, timeout_s=2)
        assert invocation.failure.failure_class is FailureClass.TIMEOUT
        assert invocation.measurement is None

    def test_the_tools_own_time_limit_is_no_measurement_either(self, run):
        failure = run(runs=10**9, max_s=1).failure
        assert failure.failure_class in (FailureClass.TIMEOUT, FailureClass.TOOL_OUTPUT_UNREADABLE)
        assert str(10**9) in failure.message

    def test_a_flag_that_this_binary_lacks_is_never_sent(self, run):
        invocation = run(changes={"flags": frozenset({"graph"})})
        assert invocation.failure.failure_class is FailureClass.TOOL_REJECTED_FLAG
        assert invocation.command == ()
        assert invocation.log == ""

    @pytest.mark.parametrize(
        ("content", "mode", "failure_class", "said"),
        [
            (None, 0, FailureClass.TOOL_OUTPUT_UNREADABLE, "not there"),
            (b"\x7fELF", 0o644, FailureClass.TOOL_OUTPUT_UNREADABLE, "cannot be executed"),
            (b"\x7fELF" + b"\0" * 60, 0o755, FailureClass.WRONG_ABI, "another kind of processor"),
        ],
        ids=["missing", "not executable", "another processor"],
    )
    def test_a_tool_that_cannot_start_says_why(self, run, tmp_path, content, mode, failure_class, said):
        program = tmp_path / "program"
        if content is not None:
            program.write_bytes(content)
            program.chmod(mode)
        failure = run(changes={"path": program}).failure
        assert failure.failure_class is failure_class
        assert said in failure.message
        assert str(program) in failure.evidence


class LostDevice:
    """A device that goes away when it is asked to run something."""

    def run(self, arguments, *, timeout_s, environment=None):
        raise DeviceError(Failure(FailureClass.DEVICE_LOST, f"{arguments[0]}: gone after {timeout_s}."))


@pytest.mark.official_tool
def test_a_lost_device_is_a_failure_in_the_invocation(tools):
    tool = tools[ToolSystem.VIRTUAL_PHONE]
    invocation = invoke(LostDevice(), tool, "/tool", InvocationRequest("/m", "cpu"), timeout_s=1)
    assert invocation.failure.failure_class is FailureClass.DEVICE_LOST


class TestLitertOnTheHost:
    def test_it_measures_the_cpu_with_a_median_and_memory(self, litert):
        measured = litert(runs=20).measurement
        assert measured.runs == 20
        assert measured.latency_min_us <= measured.latency_median_us <= measured.latency_max_us
        assert 0 < measured.latency_avg_us < 1e6  # microseconds: the benchmark itself tells milliseconds
        assert measured.peak_memory_mb >= measured.memory_overall_mb > 0
        assert measured.delegation.achieved == "cpu"

    @pytest.mark.parametrize("delegate", ["gpu", "nnapi", "cpu-builtin"])
    def test_what_it_cannot_prove_is_refused_before_it_runs(self, litert, delegate):
        invocation = litert(delegate=delegate)
        assert invocation.failure.failure_class is FailureClass.DELEGATE_UNAVAILABLE
        assert delegate in invocation.failure.message
        assert invocation.command == ()

    def test_bad_models(self, litert, tmp_path):
        assert litert(tmp_path / "no.tflite").failure.failure_class is FailureClass.INVALID_MODEL
        cut = tmp_path / HOSTILE_NAME
        cut.write_bytes(MODEL.read_bytes()[:4000])
        assert litert(cut).failure.failure_class in (FailureClass.CRASHED, FailureClass.INVALID_MODEL)

    def test_it_is_stopped_at_the_limit(self, litert):
        assert litert(runs=10**9, timeout_s=2).failure.failure_class is FailureClass.TIMEOUT


@pytest.mark.official_tool
@pytest.mark.virtual_phone
class TestOnAPhone:
    @pytest.fixture
    def phone(self, virtual_phone):
        return open_device(virtual_phone.serial)

    @pytest.fixture
    def tool(self, phone, tools):
        tool = tools[ToolSystem.VIRTUAL_PHONE]
        path = phone.push(tool.path)
        return tool.model_copy(update={"flags": probe_flags(phone, tool, path)}), path

    def test_the_binary_is_asked_for_its_flags_on_the_phone(self, tool):
        assert {"graph", "use_gpu", "use_nnapi", "report_peak_memory_footprint"} <= tool[0].flags

    @pytest.mark.parametrize("delegate", ["cpu", "gpu"])
    def test_the_log_proves_the_delegate(self, phone, tool, delegate):
        request = InvocationRequest(phone.push(MODEL), delegate, runs=5)
        invocation = invoke(phone, *tool, request, timeout_s=TIME_LIMIT_S)
        assert invocation.failure is None
        delegation = invocation.measurement.delegation
        assert (delegation.achieved, delegation.fell_back) == (delegate, False)
        assert delegation.delegated_nodes == 6

    def test_a_binary_for_another_processor_is_called_so(self, phone, tools, tmp_path):
        arm = tmp_path / "arm"
        arm.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x03\0\xb7\0" + b"\0" * 200)
        path = phone.push(arm)
        tool = tools[ToolSystem.VIRTUAL_PHONE]
        failure = invoke(phone, tool, path, InvocationRequest("/m", "cpu"), timeout_s=TIME_LIMIT_S).failure
        assert failure.failure_class is FailureClass.WRONG_ABI
        with pytest.raises(FailureError) as caught:
            probe_flags(phone, tool, path)
        assert caught.value.failure.failure_class is FailureClass.WRONG_ABI
