"""One run of a log as `harness parse-log` shows it: what was measured, whether it is any good, and who ran it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from harness.benchmark.benchmark_model.delegation import conclude_delegation
from harness.benchmark.benchmark_model.failures import error_lines, find_failure
from harness.benchmark.benchmark_model.log import BenchmarkLog
from harness.errors import FailureClass


@dataclass(frozen=True)
class LogVerdict:
    """What a log alone proves, without the exit code of its process."""

    ok: bool
    error_class: FailureClass | None
    error_text: str | None
    fell_back: bool | None


def judge_log(log: BenchmarkLog, requested: str | None = None) -> LogVerdict:
    """Judge one run. `requested` is the delegate that was asked for; None where that is not known."""
    errors = error_lines(log.lines)
    fell_back = conclude_delegation(log, requested).fell_back if requested else None
    if not errors and log.measured:
        return LogVerdict(True, None, None, fell_back)
    failure = find_failure(log.lines)
    error_class = failure.failure_class if failure else FailureClass.TOOL_OUTPUT_UNREADABLE
    text = " / ".join(line.raw if not line.tag else line.text for line in errors)
    return LogVerdict(False, error_class, text or None, fell_back)


def log_as_dict(log: BenchmarkLog, requested: str | None = None) -> dict[str, Any]:
    """Return one run as plain values for JSON, with the field names of the design."""
    values: dict[str, Any] = dataclasses.asdict(judge_log(log, requested))
    for field in (
        "init_us", "first_inference_us", "warmup_avg_us", "inference_avg_us", "warmup_stats", "run_stats",
        "memory_init_mb", "memory_overall_mb", "memory_label", "peak_memory_mb", "delegations", "delegated_nodes",
        "total_nodes", "partitions", "explicit_apply", "delegate_kernels", "op_profile", "op_profile_nodes",
        "op_profile_init_nodes", "model_file_mb", "session_init_ms", "unconsumed_flags", "option_runs",
        "litert_results", "accelerator_counter",
    ):  # fmt: skip
        values[field] = _plain(getattr(log, field))
    return values


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn value objects into dictionaries; statistics that the tool did not print are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(item) for key, item in vars(value).items() if item is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
