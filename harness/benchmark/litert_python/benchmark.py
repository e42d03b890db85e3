"""LiteRT's own Python benchmark on this host, for where no `benchmark_model` binary is registered.

It can measure the CPU alone: its GPU latency does not wait for the result, and its NPU mode says "fully accelerated"
while the CPU runs, so both are refused here.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from harness.benchmark.failures import find_failure
from harness.benchmark.invocation import Delegation, InvocationRequest, Measurement
from harness.benchmark.log_lines import split_lines
from harness.devices.device import CommandResult
from harness.errors import Failure, FailureClass, FailureError

RESULT_MARK = "harness-result: "
_US_PER_MS = 1000.0
MIN_WARMUP_RUNS = 5


def build_arguments(request: InvocationRequest) -> list[str]:
    """Return the argument list. Raises `FailureError` (`delegate_unavailable`) for all but `cpu`."""
    if request.delegate != "cpu" or request.inputs or request.output_file:
        raise FailureError(
            Failure(
                FailureClass.DELEGATE_UNAVAILABLE,
                f"LiteRT's Python benchmark can prove a measurement of cpu only, not of {request.delegate}.",
                "no benchmark_model is registered for this host",
            )
        )
    return [
        sys.executable,
        "-m",
        "harness.benchmark.litert_python.child",
        "--model",
        request.model,
        "--num_threads",
        str(request.threads),
        "--num_runs",
        str(request.runs),
        "--warmup_runs",
        str(max(request.warmup_runs, MIN_WARMUP_RUNS)),
    ]


def judge(result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
    """Judge one finished process by its result line, which stands only if the benchmark came to its end."""
    if result.timed_out:
        return Failure(FailureClass.TIMEOUT, f"The benchmark was stopped after {result.wall_s:.0f} s.", "")
    if result.signal:
        return Failure(
            FailureClass.CRASHED, f"The benchmark was killed by signal {result.signal}.", result.stderr[-400:]
        )
    line = next((text for text in result.stdout.splitlines() if text.startswith(RESULT_MARK)), None)
    if result.exit_code != 0 or line is None:
        return find_failure(split_lines(result.stdout + "\n" + result.stderr)) or Failure(
            FailureClass.TOOL_OUTPUT_UNREADABLE,
            f"LiteRT's benchmark ended with exit code {result.exit_code} and no result.",
            result.stderr.strip()[-400:],
        )
    return _measurement(json.loads(line.removeprefix(RESULT_MARK)), request)


def _measurement(results: dict[str, Any], request: InvocationRequest) -> Measurement | Failure:
    latency = results["latency"]
    if latency["num_runs"] != request.runs or not latency["avg_ms"] > 0:
        return Failure(
            FailureClass.TOOL_OUTPUT_UNREADABLE,
            f"{latency['num_runs']} timed runs of {latency['avg_ms']} ms were made, not the {request.runs} asked for.",
            json.dumps(latency),
        )
    return Measurement(
        delegation=Delegation(request.delegate, "cpu", fell_back=False),
        runs=latency["num_runs"],
        latency_avg_us=latency["avg_ms"] * _US_PER_MS,
        latency_min_us=latency["min_ms"] * _US_PER_MS,
        latency_max_us=latency["max_ms"] * _US_PER_MS,
        latency_std_us=latency["std_ms"] * _US_PER_MS,
        latency_median_us=latency["median_ms"] * _US_PER_MS,
        init_us=latency["init_ms"] * _US_PER_MS,
        first_inference_us=latency["warmup_first_ms"] * _US_PER_MS,
        memory_init_mb=None,
        memory_overall_mb=results["memory_overall_mb"],
        peak_memory_mb=results["peak_memory_mb"],
        warmup_runs=latency["num_warmup_runs"],
        warmup_window_us=_without_first(latency) * _US_PER_MS,
        timed_window_us=latency["avg_ms"] * _US_PER_MS,
    )


def _without_first(latency: dict[str, Any]) -> float:
    """Return the mean of the warm-up without its first run, in ms."""
    count = latency["num_warmup_runs"]
    return float((latency["warmup_avg_ms"] * count - latency["warmup_first_ms"]) / (count - 1))
