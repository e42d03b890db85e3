"""Promise H13: an accelerator that leaves nodes to the CPU fails where the whole graph was required."""

import dataclasses

import pytest
from recorded_logs import as_request, as_result, situations

from harness.benchmark.benchmark_model.command import build_arguments
from harness.benchmark.benchmark_model.outcome import judge
from harness.benchmark.invocation import InvocationRequest, Measurement
from harness.benchmark.tool import Tool, ToolFamily, ToolSystem
from harness.errors import FailureClass

_FLAGS = "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_gpu use_xnnpack"
BASE = frozenset(_FLAGS.split())


def required(name):
    request = dataclasses.replace(as_request(situations()[name]), require_full_delegation=True)
    return judge(as_result(situations()[name]), request)


def flags_sent(delegate, flags, *, family=ToolFamily.INTERPRETER, require=True):
    tool = Tool(
        name="t",
        family=family,
        system=ToolSystem.ANDROID,
        abi="arm64-v8a",
        sha256="0" * 64,
        path="/t",
        origin="test",
        flags=flags,
    )
    return build_arguments(tool, "/t", InvocationRequest("/m", delegate, require_full_delegation=require))


@pytest.mark.parametrize("name", ["gpu_partial2", "verb_gpu_partial", "nnapi"])
def test_promise_h13_a_log_with_nodes_left_over_is_a_failure(name):
    request = as_request(situations()[name])
    assert isinstance(judge(as_result(situations()[name]), request), Measurement)  # only where it is required
    failure = required(name)
    assert failure.failure_class is FailureClass.FELL_BACK
    assert "did not take the whole graph" in failure.message


def test_promise_h13_the_operators_left_over_are_named_where_the_runtime_does():
    assert "REVERSE_V2" in required("gpu_partial2").evidence
    assert "2 of 6 nodes were left over" in required("verb_gpu_partial").message


def test_promise_h13_the_tools_own_refusal_names_them_too():
    refused = required("gpu_partial2_full")
    assert refused.failure_class is FailureClass.FELL_BACK
    assert "Disallowed CPU fallback detected" in refused.evidence
    assert "REVERSE_V2" in refused.evidence
    assert required("nnapi_full").failure_class is FailureClass.FELL_BACK


@pytest.mark.parametrize("name", ["gpu_full_ok", "partial_xnn"])
def test_what_left_nothing_over_or_ran_on_the_cpu_as_asked_is_measured(name):
    assert isinstance(required(name), Measurement)


def test_promise_h13_the_tool_is_asked_where_it_knows_the_flag():
    asked = "--require_full_delegation=true"
    knows = BASE | {"require_full_delegation"}
    assert asked in flags_sent("gpu", knows)
    assert asked not in flags_sent("gpu", BASE)
    assert asked not in flags_sent("cpu", knows)
    assert asked not in flags_sent("gpu", knows, require=False)
    litert = flags_sent("gpu", None, family=ToolFamily.COMPILED_MODEL)
    assert litert.count(asked) == 1


def test_promise_h13_the_advice_tells_of_the_option():
    assert "--require-full-delegation" in FailureClass.FELL_BACK.advice
