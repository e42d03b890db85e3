"""Every recorded situation of the tool ends as the measurement or the failure that it is."""

import dataclasses
import json
from pathlib import Path

import pytest
from recorded_logs import as_request, as_result, situations

from harness.benchmark.benchmark_model.outcome import judge
from harness.benchmark.invocation import InvocationRequest, Pass
from harness.devices.device import CommandResult
from harness.errors import Failure, FailureClass

EXPECTED = json.loads((Path(__file__).parent / "data" / "expected-outcomes.json").read_text())
OTHER_PROGRAMS = ("idiff_", "imagenet_", "label_image_", "litert_")


def outcome_of(name):
    situation = situations()[name]
    return judge(as_result(situation), as_request(situation))


def test_every_situation_is_in_the_table():
    assert len(situations()) == 286
    assert set(EXPECTED) == set(situations())


@pytest.mark.parametrize("name", sorted(situations()))
def test_situation(name):
    outcome = outcome_of(name)
    if isinstance(outcome, Failure):
        told = outcome.failure_class.value
        assert outcome.message.endswith(".")
        assert outcome.advice
    else:
        delegation = outcome.delegation
        told = f"{delegation.requested} -> {delegation.achieved}" + (" (fell back)" if delegation.fell_back else "")
        assert outcome.latency_avg_us > 0
        assert outcome.runs == as_request(situations()[name]).runs
    assert told == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in situations() if name.startswith(OTHER_PROGRAMS)])
def test_another_programs_output_is_never_a_measurement(name):
    assert isinstance(outcome_of(name), Failure)


@pytest.mark.parametrize(
    ("name", "failure_class"),
    [
        ("err_unknown_flag", FailureClass.TOOL_REJECTED_FLAG),
        ("dup_flag", FailureClass.TOOL_REJECTED_FLAG),
        ("stdout_full", FailureClass.TOOL_OUTPUT_UNREADABLE),
        ("stdout_closed", FailureClass.TOOL_OUTPUT_UNREADABLE),
    ],
)
def test_exit_code_zero_is_not_believed(name, failure_class):
    assert situations()[name]["rc"].strip() == "0"
    assert outcome_of(name).failure_class is failure_class


def test_promise_h12_flags_that_the_tool_ignored_are_a_failure():
    assert "Unconsumed cmdline flags" in as_result(situations()["err_unknown_flag"]).stdout
    assert outcome_of("err_unknown_flag").failure_class is FailureClass.TOOL_REJECTED_FLAG


def test_promise_h13_nnapi_that_is_not_there_ran_on_the_cpu():
    delegation = outcome_of("nnapi").delegation
    assert (delegation.achieved, delegation.fell_back) == ("cpu", True)
    assert delegation.reason == "NNAPI acceleration is unsupported on this platform."


def test_promise_h13_what_the_gpu_refused_is_told_in_the_runtimes_words():
    delegation = outcome_of("gpu_partial2").delegation
    assert delegation.fell_back
    assert "REVERSE_V2" in delegation.reason


def test_promise_h13_android_level_logs_count_the_nodes():
    delegation = outcome_of("verb_gpu_partial").delegation
    assert (delegation.delegated_nodes, delegation.total_nodes) == (4, 6)
    assert delegation.fell_back


@pytest.mark.parametrize(("delegated", "fell_back"), [(4, True), (6, False)])
def test_promise_h13_the_count_of_nodes_alone_proves_what_ran(delegated, fell_back):
    log = (
        f"INFO: Replacing {delegated} out of 6 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions"
        " for the whole graph.\nRunning benchmark for at least 10 iterations\n"
        "count=10 first=9 curr=9 min=9 max=9 avg=9 std=0\n"
        "Inference timings in us: Init: 1, First inference: 9, Warmup (avg): 9, Inference (avg): 9\n"
    )
    delegation = judge(CommandResult(0, log, "", 1.0), InvocationRequest("m", "gpu", runs=10)).delegation
    assert (delegation.delegated_nodes, delegation.total_nodes, delegation.partitions) == (delegated, 6, 3)
    assert (delegation.requested, delegation.achieved, delegation.fell_back) == ("gpu", "gpu", fell_back)


GOOD = situations()["num_runs"]


def judged(*, runs=None, out=None, purpose=Pass.LATENCY, **changes):
    request = dataclasses.replace(as_request(GOOD), purpose=purpose, **({"runs": runs} if runs else {}))
    result = dataclasses.replace(as_result(GOOD), **({"stdout": out} if out is not None else {}), **changes)
    return judge(result, request)


@pytest.mark.parametrize("more_asked_for", [1, -1])
def test_promise_h7_another_count_than_asked_for_is_no_measurement(more_asked_for):
    asked = as_request(GOOD).runs
    assert judged(runs=asked).runs == asked
    outcome = judged(runs=asked + more_asked_for)
    assert outcome.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
    assert outcome.message.startswith(f"{asked} timed runs were made, not the {asked + more_asked_for}")


def test_promise_h11_a_latency_of_zero_is_no_measurement():
    out = GOOD["out"]
    number = out.rpartition("Inference (avg): ")[2].split()[0]
    zero = out.replace(f"Inference (avg): {number}", "Inference (avg): 0").replace(f"avg={number}", "avg=0")
    assert judged(out=zero).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE


@pytest.mark.parametrize("lost", ["Inference (avg):", "Init:", "count="])
def test_promise_h11_a_log_that_lacks_its_timings_is_no_measurement(lost):
    out = "\n".join(line.replace(lost, "lost:") for line in GOOD["out"].splitlines())
    assert judged(out=out).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE


def test_no_memory_figure_is_not_zero_megabytes():
    before = GOOD["out"].rpartition("start of the tool (MB): ")[0]
    measured = judged(out=before + "start of the tool (MB): init=0 overall=0\n")
    assert measured.memory_init_mb is None
    assert measured.memory_overall_mb is None


@pytest.mark.parametrize(
    ("average", "failure_class"), [(2e6, FailureClass.TIMEOUT), (3, FailureClass.TOOL_OUTPUT_UNREADABLE)]
)
def test_fewer_runs_than_asked_for_are_a_slow_model_or_a_bad_log(average, failure_class):
    log = (
        "Running benchmark for at least 100 iterations\n"
        f"count=75 first=1 curr=1 min=1 max=9 avg={average:g} std=0\n"
        f"Inference timings in us: Init: 1, First inference: 0, Warmup (avg): 0, Inference (avg): {average:g}\n"
    )
    outcome = judge(CommandResult(0, log, "", 150.0), InvocationRequest("m", "cpu", runs=100, max_s=150))
    assert outcome.failure_class is failure_class
    assert "75" in outcome.message
    assert "100" in outcome.message


def test_a_gpu_driver_that_refuses_is_not_a_missing_one():
    said = "ERROR: Failed to create Image from Buffer (clCreateImage): Invalid memory object\n"
    outcome = judge(CommandResult(1, "", said + situations()["gpu_gl"]["err"], 1.0), InvocationRequest("m", "gpu"))
    assert outcome.failure_class is FailureClass.DELEGATE_FAILED
    assert "clCreateImage" in outcome.message
    assert outcome_of("gpu_gl").failure_class is FailureClass.DELEGATE_UNAVAILABLE


def test_promise_h11_a_summary_that_does_not_fit_its_block_is_no_measurement():
    number = GOOD["out"].rpartition("Inference (avg): ")[2].split()[0]
    other = GOOD["out"].replace(f"Inference (avg): {number}", "Inference (avg): 1.5")
    assert judged(out=other).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE


def test_a_memory_pass_needs_memory():
    out = "\n".join(line for line in GOOD["out"].splitlines() if "emory footprint" not in line)
    assert judged(out=out, purpose=Pass.MEMORY).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE


def test_time_limit_and_signals():
    assert judged(timed_out=True, exit_code=None).failure_class is FailureClass.TIMEOUT
    killed = judge(CommandResult(None, "INFO: STARTING!", "", 1.0, signal=9), InvocationRequest("m", "cpu"))
    assert killed.failure_class is FailureClass.CRASHED
    assert "SIGKILL" in killed.message
    assert judge(CommandResult(139, "", "", 1.0), InvocationRequest("m", "cpu")).failure_class is FailureClass.CRASHED


@pytest.mark.parametrize(
    ("stderr", "failure_class"),
    [
        ("/system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file", FailureClass.WRONG_ABI),
        ("/system/bin/sh: /data/local/tmp/b[3]: syntax error: '(' unexpected", FailureClass.WRONG_ABI),
        ("/data/local/tmp/b[2]: \x7fELF\x02\x01: inaccessible or not found", FailureClass.WRONG_ABI),
        (
            "/bin/sh: /data/local/tmp/harness/blobs/ab: can't execute: Permission denied",
            FailureClass.TOOL_OUTPUT_UNREADABLE,
        ),
        ("ERROR: write failed: No space left on device", FailureClass.STORAGE_FULL),
    ],
)
def test_what_the_shell_says(stderr, failure_class):
    outcome = judge(CommandResult(126, "", stderr, 0.1), InvocationRequest("m", "cpu"))
    assert outcome.failure_class is failure_class
