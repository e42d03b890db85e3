"""Which operators ran where, out of recorded profiles."""

import pytest
from recorded_logs import as_request, as_result, situations

from harness.benchmark.benchmark_model.command import build_arguments, offers_op_profile
from harness.benchmark.benchmark_model.outcome import judge
from harness.benchmark.invocation import ExecutedBy, InvocationRequest, Pass
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.errors import FailureClass

FLAGS = frozenset(
    {
        "graph",
        "num_threads",
        "num_runs",
        "min_secs",
        "max_secs",
        "warmup_runs",
        "warmup_min_secs",
        "use_xnnpack",
        "enable_op_profiling",
    }
)


def operators_of(name):
    situation = situations()[name]
    return {
        (found.operator, found.place): found for found in judge(as_result(situation), as_request(situation)).operators
    }


def test_what_the_delegate_left_over_stands_beside_what_it_took():
    found = operators_of("opprof_partial")
    assert ("CUMSUM", ExecutedBy.BUILTIN) in found
    convolution = found["Convolution (NHWC, F32) IGEMM", ExecutedBy.DELEGATE]
    assert convolution.time_us == pytest.approx(44)  # 22 us, called twice in one inference
    assert {place for operator, place in found if operator != "CUMSUM"} == {ExecutedBy.DELEGATE}


def test_built_in_kernels_are_added_up_by_kind():
    found = operators_of("opprof_cpu")
    assert {place for _, place in found} == {ExecutedBy.BUILTIN}
    assert found["DEPTHWISE_CONV_2D", ExecutedBy.BUILTIN].nodes == 17
    assert next(iter(found)) == ("DEPTHWISE_CONV_2D", ExecutedBy.BUILTIN)  # the slowest first


def test_a_gpu_profiles_its_own_steps():
    found = operators_of("gpu_opprof")
    assert {place for _, place in found} == {ExecutedBy.DELEGATE}
    assert found["fully_connected 8 -> relu 9", ExecutedBy.DELEGATE].time_us == pytest.approx(25)


def tool(flags=FLAGS):
    return Tool(
        name="t",
        family=ToolFamily.INTERPRETER,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="0" * 64,
        path="/t",
        origin="test",
        flags=flags,
    )


def test_promise_h10_the_profile_is_a_pass_of_its_own():
    profiling = {
        purpose
        for purpose in Pass
        if "--enable_op_profiling=true"
        in build_arguments(
            tool(FLAGS | {"report_peak_memory_footprint"}), "/t", InvocationRequest("/m", "cpu", purpose=purpose)
        )
    }
    assert profiling == {Pass.OP_PROFILE}


def test_the_buffer_grows_where_the_tool_lets_it():
    request = InvocationRequest("/m", "cpu", purpose=Pass.OP_PROFILE)
    grows = "--allow_dynamic_profiling_buffer_increase=true"
    assert grows in build_arguments(tool(FLAGS | {"allow_dynamic_profiling_buffer_increase"}), "/t", request)
    assert grows not in build_arguments(tool(), "/t", request)


def test_a_tool_that_cannot_profile_is_known():
    assert offers_op_profile(tool())
    assert not offers_op_profile(tool(FLAGS - {"enable_op_profiling"}))
    assert not offers_op_profile(tool(None))


def test_a_profile_that_is_missing_is_a_failure():
    situation = situations()["num_runs"]
    request = InvocationRequest("m", "cpu", runs=as_request(situation).runs, purpose=Pass.OP_PROFILE)
    assert judge(as_result(situation), request).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
