"""What a log proves about delegates, runs and crashes: one short log per sentence of a runtime."""

import json
import re

import pytest
from log_layouts import LAYOUTS, run_lines

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import judge, judge_log, log_as_dict
from harness.benchmark.delegates import DELEGATES
from harness.benchmark.invocation import InvocationRequest, Measurement
from harness.benchmark.saved_log import read_saved_log
from harness.devices.device import CommandResult
from harness.errors import ExitCode, FailureClass


def replacing(taken, total, delegate, graph="subgraph 0", partitions=2):
    result = f"yielding {partitions} partitions for {graph}."
    return f"Replacing {taken} out of {total} node(s) with delegate ({delegate}) node, {result}"


def log_of(*delegates, **options):
    return LAYOUTS["plain"](run_lines(delegates=delegates, **options))


def verdict(text, requested):
    (run,) = parse_log(text)
    found = judge_log(run, requested)
    return found, log_as_dict(run, requested)


LITERT_RESULTS = """\
INFO: [benchmark_litert_model.h:90] \n========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:92] Signature name:       {signature}
INFO: [benchmark_litert_model.h:94] Model initialization: 44.73 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         11.00 ms (10 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      {ms:.2f} ms (50 runs)
INFO: [benchmark_litert_model.h:124] \nMemory Usage:
INFO: [benchmark_litert_model.h:126] Init footprint:       391.74 MB
INFO: [benchmark_litert_model.h:128] Overall footprint:    392.00 MB
INFO: [benchmark_litert_model.h:132] Peak memory:          412.50 MB
"""


@pytest.mark.parametrize(
    ("requested", "delegate"),
    [
        *(("gpu", name) for name in ("LITERT_CL", "LITERT_GL", "TfLiteGpuDelegateV2", "TFLiteMetal", "LITERT_WEBGPU")),
        *(("npu", name) for name in ("DispatchDelegate", "TfLiteQnnDelegate", "TfLiteNeuronDelegate", "SomeNewVendor")),
        ("external:lib.so", "TfLiteQnnDelegate"),
        ("hexagon", "TfLiteHexagonDelegate"),
        ("nnapi", "TfLiteNnapiDelegate"),
    ],
)
def test_promise_h13_all_names_of_a_delegate_count(requested, delegate):
    whole, values = verdict(log_of(replacing(90, 90, delegate, partitions=1)), requested)
    assert (whole.delegation.achieved, whole.fell_back) == (requested, False)
    assert (values["delegated_nodes"], values["total_nodes"], values["partitions"]) == (90, 90, 1)
    rest = replacing(32, 43, "TfLiteXNNPackDelegate")
    part, values = verdict(log_of(replacing(48, 90, delegate), rest), requested)
    assert (part.delegation.achieved, part.fell_back) == (requested, True)
    assert (values["delegated_nodes"], values["total_nodes"]) == (48, 90)


def test_promise_h13_the_graph_that_ran_counts_not_the_last():
    graphs = (
        replacing(1500, 2068, "LITERT_CL", "subgraph 0 (decode)"),
        replacing(9, 9, "LITERT_CL", "subgraph 1 (prefill)"),
    )
    lines = "".join(f"VERBOSE: {line}\n" for line in graphs)
    for signature, nodes, fell_back in (("decode", 1500, True), ("prefill", 9, False), ("other", 1500, True)):
        found, values = verdict(lines + LITERT_RESULTS.format(signature=signature, ms=10), "gpu")
        assert (values["delegated_nodes"], found.fell_back) == (nodes, fell_back)


def test_promise_h13_a_graph_left_out_by_the_delegate_is_a_fallback():
    lines = (replacing(9, 9, "LITERT_CL"), replacing(5, 6, "TfLiteXNNPackDelegate", "subgraph 1"))
    assert verdict(log_of(*lines), "gpu")[0].fell_back is True


def test_two_delegates_share_the_nodes_that_the_graph_had_at_first():
    lines = (replacing(48, 90, "DispatchDelegate"), replacing(42, 43, "LITERT_CL"))
    found, values = verdict(log_of(*lines), "npu")
    assert (found.delegation.achieved, found.fell_back, values["total_nodes"]) == ("npu", True, 90)
    assert verdict(log_of(*lines), "gpu")[1]["delegated_nodes"] == 42


def test_a_restored_graph_was_not_taken():
    lines = (
        replacing(12, 12, "TfLiteGpuDelegateV2", partitions=1),
        replacing(12, 12, "TfLiteXNNPackDelegate", partitions=1),
    )
    found, values = verdict(log_of(*lines), "gpu")
    assert (found.delegation.achieved, found.fell_back, values["delegated_nodes"]) == ("cpu", True, 0)


def test_a_delegate_that_is_applied_again_counts_once():
    again = replacing(7, 12, "TfLiteNnapiDelegate", partitions=10)
    assert verdict(log_of(again, again), "nnapi")[1]["delegated_nodes"] == 7


@pytest.mark.parametrize(("partitions", "fell_back"), [(1, False), (3, True)])
def test_the_older_sentence_names_no_total(partitions, fell_back):
    line = f"Replacing 12 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding {partitions} partitions."
    found, values = verdict(log_of(line), "gpu")
    assert (found.delegation.achieved, found.fell_back) == ("gpu", fell_back)
    assert (values["delegated_nodes"], values["total_nodes"]) == (12, None)


@pytest.mark.parametrize(
    ("taken", "achieved", "fell_back"), [(0, "cpu", True), (20, "hexagon", True), (31, "hexagon", False)]
)
def test_a_vendors_own_count_of_nodes(taken, achieved, fell_back):
    count = f"TfLiteHexagonDelegate delegate: {taken} nodes delegated out of 31 nodes with 1 partitions."
    lines = [count, *([replacing(taken, 31, "TfLiteHexagonDelegate")] if taken else [])]
    rest = [] if taken == 31 else [replacing(9, 31 - taken, "TfLiteXNNPackDelegate")]
    found, values = verdict(log_of(*lines, *rest), "hexagon")
    assert (found.delegation.achieved, found.fell_back) == (achieved, fell_back)
    assert (values["delegated_nodes"], values["total_nodes"]) == (taken, 31)
    assert len(values["delegations"]) == 1 + len(rest)  # both sentences say the same


@pytest.mark.parametrize(
    ("requested", "sentence"),
    [
        ("hexagon", "WARN: Could not create Hexagon delegate: platform may not support delegate"),
        ("nnapi", "WARN: NNAPI acceleration is unsupported on this platform."),
        ("gpu", "WARN: Could not create GPU delegate: no driver."),
        ("stable", "ERROR: Invalid TFLiteSettings for the stable delegate."),
        (
            "npu",
            "WARNING: [auto_registration.cc:46] NPU accelerator could not be loaded and registered: kLiteRtStatusError",
        ),
    ],
)
def test_promise_h13_a_run_without_its_delegate_fell_back(requested, sentence):
    text = log_of(replacing(12, 12, "TfLiteXNNPackDelegate", partitions=1)).replace(
        "INFO: The input", f"{sentence}\nINFO: The input"
    )
    found, values = verdict(text, requested)
    assert (found.ok, found.delegation.achieved, found.fell_back) == (True, "cpu", True)
    assert (values["delegated_nodes"], values["total_nodes"]) == (0, 12)
    assert found.delegation.reason in sentence


@pytest.mark.parametrize(
    ("requested", "sentence"),
    [
        ("external:ethosu.so", "EthosuDelegate: 1 nodes delegated out of 9 nodes with 1 partitions."),
        ("qnn", "[Qnn Delegate] QNN delegate: 1 nodes delegated out of 9 nodes"),
        ("external:tidl.so", "Number of subgraphs:1 , 1 nodes delegated out of 9 nodes"),
        ("npu", "NeutronDelegate: 1 nodes delegated out of 9 nodes with 2 partitions"),
    ],
)
def test_vendors_word_their_count_each_in_a_way(requested, sentence):
    found, values = verdict(log_of(sentence), requested)
    assert (found.delegation.achieved, found.fell_back) == (requested, True)
    assert (values["delegated_nodes"], values["total_nodes"]) == (1, 9)


def test_flex_operators_run_on_the_cpu():
    lines = (
        "TfLiteFlexDelegate delegate: 5 nodes delegated out of 105 nodes",
        replacing(60, 101, "TfLiteXNNPackDelegate"),
    )
    assert verdict(log_of(*lines), "cpu")[0].delegation.achieved == "cpu"
    assert verdict(log_of(*lines), "npu")[0].fell_back is True


def test_graphs_of_two_models_stay_apart():
    lines = (replacing(5, 7, "LITERT_CL", "subgraph 0 (decode)"), replacing(3, 3, "LITERT_CL", "subgraph 0 (main)"))
    found, values = verdict(log_of(*lines), "gpu")
    assert (values["delegated_nodes"], values["total_nodes"], found.fell_back) == (5, 7, True)


def test_what_the_cpu_alone_shows_of_a_request():
    created = log_of("Created TensorFlow Lite XNNPACK delegate for CPU.").replace("Use gpu: [1]", "Use gpu: [0]")
    assert verdict(created, "gpu")[0].fell_back is True
    (run,) = read_saved_log(created, "gpu")
    assert (run.verdict, run.is_good) == ("requested gpu, ran cpu.", False)
    tail = created[created.index("INFO: count=50") :]  # what people keep of a log does not show what ran
    assert verdict(tail, "gpu")[0].fell_back is None


def test_a_harmless_error_line_does_not_spoil_a_complete_run():
    text = log_of().replace("INFO: The input", "ERROR: Failed to load libhexagon_interface.so\nINFO: The input")
    assert verdict(text, "cpu")[0].ok
    (cut,) = parse_log(text[: text.index("INFO: Running")])
    assert judge_log(cut).error_text == "ERROR: Failed to load libhexagon_interface.so"


FAILED_FP16 = (
    "failed to delegate DEPTHWISE_CONV_2D node #3",
    "Node number 22 (TfLiteXNNPackDelegate) failed to prepare.",
    "Benchmarking failed.",
)
WRONG_NAME = "Could not find the specified NNAPI accelerator: google-edgetpu. Must be one of: {stub-npu,qti-dsp}."


@pytest.mark.parametrize(
    ("failure", "failure_class", "said"),
    [
        (FAILED_FP16, FailureClass.DELEGATE_FAILED, "XNNPACK cannot run the DEPTHWISE_CONV_2D"),
        (
            ("NNAPI acceleration is unsupported on this platform.", *FAILED_FP16),
            FailureClass.DELEGATE_UNAVAILABLE,
            "NNAPI",
        ),
        (
            (WRONG_NAME, "Failed to apply NNAPI delegate."),
            FailureClass.DELEGATE_UNAVAILABLE,
            "It offers stub-npu,qti-dsp.",
        ),
    ],
)
def test_the_cause_of_a_failed_delegate(failure, failure_class, said):
    found, _ = verdict(LAYOUTS["plain"](run_lines(failure=failure)), "cpu")
    assert found.error_class is failure_class
    assert said in found.failure.message


def test_a_failed_cpu_delegate_is_not_told_to_use_the_cpu():
    assert "cpu-builtin" in FailureClass.DELEGATE_FAILED.advice


@pytest.mark.parametrize(
    ("crash", "signal"),
    [
        (
            "libc: Fatal signal 6 (SIGABRT), code -1 (SI_QUEUE) in tid 9149 (qemu-aarch64), pid 9149 (qemu-aarch64)",
            "SIGABRT",
        ),
        (
            "07-14 13:14:52.097 1 1 F libc    : Fatal signal 11 (SIGSEGV), code 1 in tid 7 (a), pid 7 (te.benchmark)",
            "SIGSEGV",
        ),
        ("signal 11 (SIGSEGV), code 1 (SEGV_MAPERR), fault addr 0x0", "SIGSEGV"),
        ("qemu: uncaught target signal 6 (Aborted) - core dumped", "SIGABRT"),
        ("Segmentation fault", "SIGSEGV"),
        ("Segmentation fault (core dumped)", "SIGSEGV"),
        ("run.sh: line 3: 4711 Segmentation fault (core dumped) ./benchmark_model --graph=m.tflite", "SIGSEGV"),
        ("zsh: abort      ./benchmark_model --graph=m.tflite", "SIGABRT"),
        ("Aborted", "SIGABRT"),
        ("Killed", "SIGKILL"),
        ("Bus error", "SIGBUS"),
        ("Illegal instruction", "SIGILL"),
    ],
)
def test_a_crash_has_its_signal_and_the_last_sentence(crash, signal):
    begun = LAYOUTS["plain"](run_lines()[:-12])
    text = f"{begun}ERROR: Can not open OpenCL library on this device\nmake sure you set ro.hardware.egl\n{crash}\n"
    found, _ = verdict(text, "gpu")
    assert found.error_class is FailureClass.CRASHED
    assert signal in found.failure.message
    assert "make sure you set ro.hardware.egl" in found.error_text
    assert found.error_text.endswith(crash.partition("libc    : ")[2] or crash)


def test_a_crash_of_another_program_is_not_the_tools():
    other = (
        "07-14 13:14:52.097 9 9 F libc    : Fatal signal 6 (SIGABRT), code -1 in tid 9 (cdsprpcd), pid 9 (cdsprpcd)\n"
    )
    assert verdict(log_of() + other, "cpu")[0].ok


def test_a_dry_run_is_no_measurement():
    text = re.sub(r"count=.*", "count=0 p5=0 median=0 p95=0", log_of())
    text = re.sub(r"First inference: .*", "First inference: 0, Warmup (avg): 0, Inference (avg): 0", text)
    found, values = verdict(text, "cpu")
    assert (values["ok"], found.error_class) == (False, FailureClass.TOOL_OUTPUT_UNREADABLE)
    assert "--dry_run" in found.failure.message


def test_two_result_blocks_are_two_runs():
    results = [LITERT_RESULTS.format(signature=name, ms=ms) for name, ms in (("prefill", 7430.2), ("decode", 101.5))]
    for between in ("", "$ ./benchmark_model --graph=m.tflite --use_gpu=1\n"):
        runs = [log_as_dict(run) for run in parse_log(between.join(results))]
        assert [run["litert_results"]["inference_avg_ms"] for run in runs] == [7430.2, 101.5]
        assert [run["peak_memory_mb"] for run in runs] == [412.5, 412.5]


def test_trimmed_runs_before_a_whole_one_stay_apart():
    def tail(average):
        return LAYOUTS["plain"](run_lines(average, starting=False)[-4:])

    failed = LAYOUTS["plain"](run_lines(failure=FAILED_FP16))
    runs = [log_as_dict(run) for run in parse_log(tail(500) + tail(900) + failed)]
    assert [run["inference_avg_us"] for run in runs] == [500, 900, None]
    assert [run["memory_overall_mb"] for run in runs] == [73.4102, 73.4102, None]
    assert runs[2]["error_class"] == "delegate_failed"


def test_the_runtimes_lines_belong_to_the_run_that_they_begin():
    begun = ("Created TensorFlow Lite delegate for GPU.", replacing(9, 9, "TfLiteGpuDelegateV2", partitions=1))
    both = LAYOUTS["plain"]([*run_lines(500)[-9:], *(("I", line) for line in begun), *run_lines(900)[-11:]])
    first, second = parse_log(both)
    assert (log_as_dict(first)["delegated_nodes"], log_as_dict(second)["delegated_nodes"]) == (None, 9)


def test_a_command_in_a_sentence_below_the_log_is_no_run():
    text = f"$ ./benchmark_model --graph=m\n{log_of()}I ran benchmark_model --graph=m on my phone.\n"
    assert len(parse_log(text)) == 1


def judged(text):
    return judge(CommandResult(0, text, "", 100.0), InvocationRequest("m", "cpu", runs=50))


def test_promise_h11_two_runs_of_one_process_are_no_measurement():
    assert isinstance(judged(log_of()), Measurement)
    failure = judged(log_of() + log_of(average=15))
    assert failure.failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
    assert "2 runs" in failure.message


@pytest.mark.parametrize("average", ["1e-9", "0.001"])
def test_promise_h11_less_than_the_tools_clock_can_show(average):
    text = re.sub(
        r"(count=50) .*", rf"\1 first={average} curr={average} min={average} max={average} avg={average}", log_of()
    )
    text = re.sub(r"Inference \(avg\): \d+", f"Inference (avg): {average}", text)
    assert judged(text).failure_class is FailureClass.TOOL_OUTPUT_UNREADABLE
    assert verdict(text, "cpu")[0].ok is False


def test_parse_log_says_what_ran_and_what_is_no_log(harness_cli, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(log_of(replacing(12, 12, "TfLiteXNNPackDelegate", partitions=1)))
    fell_back = harness_cli("parse-log", str(log), "--requested", "gpu")
    assert fell_back.returncode == ExitCode.CELL_FAILED
    assert "requested gpu, ran cpu." in fell_back.stdout
    assert "145.528 ms" in fell_back.stdout
    (run,) = json.loads(harness_cli("parse-log", str(log), "--requested", "nnapi", "--json").stdout)["runs"]
    assert (run["ok"], run["fell_back"], run["delegated_nodes"]) == (True, True, 0)
    assert harness_cli("parse-log", str(log), "--requested", "cpu").returncode == ExitCode.OK
    log.write_text("hello\n")
    assert "The text holds no measurement of a benchmark_model." in harness_cli("parse-log", str(log)).stdout


def test_only_in_logs_are_no_delegates_to_measure():
    assert not {"npu", "hexagon", "qnn"} & set(DELEGATES)
