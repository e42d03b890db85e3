"""Command lines: only supported flags, and every name survives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.benchmark.benchmark_model.command import build_arguments
from harness.benchmark.invocation import InputFile, InvocationRequest, Pass
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.errors import FailureClass, FailureError, UsageError


def tool(*, flags=None, family=ToolFamily.INTERPRETER):
    return Tool(
        name="t",
        family=family,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="0" * 64,
        path="/t",
        origin="test",
        flags=flags,
    )


def flags_of(arguments):
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments[1:])


def test_promise_h7_counts_are_fixed():
    flags = flags_of(build_arguments(tool(), "/t", InvocationRequest("/m", "cpu", threads=4, runs=20)))
    assert flags["num_runs"] == "20"
    assert flags["min_secs"] == "0"
    assert flags["num_threads"] == "4"
    assert flags["use_xnnpack"] == "true"
    assert "report_peak_memory_footprint" not in flags


@pytest.mark.parametrize("purpose", Pass)
def test_promise_h10_memory_is_a_pass_of_its_own(purpose):
    flags = flags_of(build_arguments(tool(), "/t", InvocationRequest("/m", "cpu", purpose=purpose)))
    assert flags.get("report_peak_memory_footprint") == ("true" if purpose is Pass.MEMORY else None)
    assert flags.get("enable_op_profiling") == ("true" if purpose is Pass.OP_PROFILE else None)


@pytest.mark.parametrize(
    ("delegate", "expected"),
    [
        ("cpu-builtin", {"use_xnnpack": "false"}),
        ("gpu", {"use_gpu": "true"}),
        ("nnapi", {"use_nnapi": "true"}),
        ("nnapi:qti-dsp", {"use_nnapi": "true", "nnapi_accelerator_name": "qti-dsp"}),
    ],
)
def test_delegates(delegate, expected):
    flags = flags_of(build_arguments(tool(), "/t", InvocationRequest("/m", delegate)))
    assert expected.items() <= flags.items()


@pytest.mark.parametrize("delegate", ["tpu", "nnapi:", "", "gpu:x"])
def test_unknown_delegates_are_refused(delegate):
    with pytest.raises(UsageError, match="Unknown delegate"):
        build_arguments(tool(), "/t", InvocationRequest("/m", delegate))


def test_promise_h12_a_flag_that_the_tool_lacks_is_a_failure_and_is_never_sent():
    known = frozenset({"graph", "num_threads", "num_runs", "min_secs", "max_secs", "warmup_runs", "warmup_min_secs"})
    with pytest.raises(FailureError) as caught:
        build_arguments(tool(flags=known), "/t", InvocationRequest("/m", "gpu"))
    assert caught.value.failure.failure_class is FailureClass.TOOL_REJECTED_FLAG
    assert "--use_gpu" in caught.value.failure.message


def test_litert_tool_never_runs_on_the_cpu_in_silence():
    litert = tool(family=ToolFamily.COMPILED_MODEL)
    assert flags_of(build_arguments(litert, "/t", InvocationRequest("/m", "gpu")))["use_cpu"] == "false"
    with pytest.raises(FailureError) as caught:
        build_arguments(litert, "/t", InvocationRequest("/m", "nnapi"))
    assert caught.value.failure.failure_class is FailureClass.DELEGATE_UNAVAILABLE


@given(
    st.lists(st.tuples(st.text(min_size=1), st.text(st.characters(blacklist_characters=","), min_size=1)), min_size=1)
)
def test_any_tensor_name_and_path_survives(tensors):
    files = tuple(InputFile(name, (1, 8), path) for name, path in tensors)
    flags = flags_of(build_arguments(tool(), "/t", InvocationRequest("/m", "cpu", inputs=files, output_file="/o")))
    items = flags["input_layer_value_files"].split(",")
    assert [item.split(":", 1)[1].replace("::", ":") for item in items] == [path for _, path in tensors]
    assert flags["input_layer"].count(",") == len(files) - 1
    assert flags["input_layer_shape"] == ":".join(["1,8"] * len(files))


@given(st.text(min_size=1))
def test_any_model_path_is_one_argument(path):
    arguments = build_arguments(tool(), "/t", InvocationRequest(path, "cpu"))
    assert f"--graph={path}" in arguments
