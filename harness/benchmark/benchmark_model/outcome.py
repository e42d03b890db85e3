"""Turn what a process of the tool left behind into a measurement or a failure, never into a plausible zero."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from harness.benchmark.benchmark_model.delegation import (
    conclude_delegation,
    explicitly_applied,
    full_delegation_failure,
    left_over_failure,
    refusal,
)
from harness.benchmark.benchmark_model.log import BenchmarkLog, Stats, parse_log
from harness.benchmark.benchmark_model.op_profile import operator_times
from harness.benchmark.failures import error_lines, find_failure, killed_by
from harness.benchmark.invocation import (
    FASTEST_US,
    Delegation,
    InvocationRequest,
    Measurement,
    Pass,
    join_streams,
)
from harness.devices.device import CommandResult
from harness.errors import Failure, FailureClass

_SHELL_SIGNAL_BASE = 128
_LAST_SIGNAL = 64
_NOT_STARTED = {126: "cannot be executed", 127: "cannot be started: it, or its loader, is not there"}
"""What a shell's own exit codes mean."""
_LAST_CHARACTERS = 400
_US_PER_S = 1e6
_RESIDENT = re.compile(r"\bVmRSS\s*: (\d+(?:\.\d+)?) MB")
_MOST_AT_START = 2.0
"""Before it loads the model, a tool holds less than when it ends; twice as much came from elsewhere."""
_MOST = 0.9
"""Part of its time limit that a tool has spent in timed runs when it was the limit that ended them."""


def judge(result: CommandResult, request: InvocationRequest) -> Measurement | Failure:
    """Judge one finished process. Causes are looked for before consequences, the exit code last."""
    logs = parse_log(join_streams(result))
    log = logs[-1]
    last_words = "\n".join(line.raw for line in error_lines(log.lines)[-3:])
    if result.timed_out:
        return Failure(
            FailureClass.TIMEOUT,
            f"The tool did not end within its time limit; stopped after {result.wall_s:.0f} s.",
            last_words,
        )
    if len(logs) > 1:
        return _unreadable(f"The output of one process holds {len(logs)} runs, so none of them counts.", last_words)
    completed = result.exit_code == 0 and log.inference_avg_us is not None
    failure = find_failure(log.lines)
    if failure and (not completed or failure.failure_class is FailureClass.TOOL_REJECTED_FLAG):
        return _with_what_was_left_over(failure, log, request)
    killed = result.signal or _signal_of(result.exit_code)
    if killed:
        return killed_by(killed, last_words)
    if result.exit_code != 0:
        how = _NOT_STARTED.get(result.exit_code or 0, "ended")
        return _unreadable(
            f"The tool {how} (exit code {result.exit_code}).", last_words or result.stderr.strip()[-_LAST_CHARACTERS:]
        )
    return _delegated_as_required(_measurement(log, request), request)


def _with_what_was_left_over(failure: Failure, log: BenchmarkLog, request: InvocationRequest) -> Failure:
    """Add to the tool's own refusal of a partial delegation which part it was."""
    if failure.failure_class is not FailureClass.FELL_BACK:
        return failure
    return left_over_failure(conclude_delegation(log, request.delegate), failure.evidence, refusal(log))


def _delegated_as_required(outcome: Measurement | Failure, request: InvocationRequest) -> Measurement | Failure:
    if isinstance(outcome, Failure) or not request.require_full_delegation:
        return outcome
    return full_delegation_failure(outcome.delegation) or outcome


def _measurement(log: BenchmarkLog, request: InvocationRequest) -> Measurement | Failure:
    problem = _inconsistency(log, request)
    if problem:
        return problem
    stats = log.run_stats
    if stats is None or log.inference_avg_us is None or log.init_us is None:  # ruled out above; for the type checker
        return _unreadable("The log holds no timings.", "")
    return Measurement(
        delegation=conclude_delegation(log, request.delegate),
        runs=stats.count,
        latency_avg_us=log.inference_avg_us,
        latency_min_us=stats.min if stats.min is not None else stats.curr,
        latency_max_us=stats.max if stats.max is not None else stats.curr,
        latency_std_us=stats.std if stats.std is not None else 0.0,
        latency_median_us=stats.median,
        init_us=log.init_us,
        first_inference_us=log.first_inference_us if log.warmup_stats and log.warmup_stats.count else None,
        memory_init_mb=log.memory_init_mb if log.memory_overall_mb else None,
        memory_overall_mb=log.memory_overall_mb or None,  # 0: the kernel did not tell the tool, not "no memory"
        peak_memory_mb=log.peak_memory_mb,
        operators=operator_times(log.op_profile_order),
        **_windows(log.warmup_stats, stats),
    )


def _windows(warmup: Stats | None, timed: Stats) -> dict[str, Any]:
    """Return how many runs warmed up, and what a run took typically in either block."""
    if warmup is None or not warmup.count:
        return {}
    if warmup.median is None or timed.median is None:
        first, second = warmup.mean_without_slowest, timed.mean_without_slowest
    else:
        first, second = warmup.median, timed.median
    return {"warmup_runs": warmup.count, "warmup_window_us": first, "timed_window_us": second}


def _inconsistency(log: BenchmarkLog, request: InvocationRequest) -> Failure | None:
    """Check what must be there: timings above zero, the block that they came from, and the count that was asked for."""
    average, stats = log.inference_avg_us, log.run_stats
    if average is None or stats is None or log.init_us is None:
        return _unreadable("The tool ended without its timings.", log.lines[-1].raw if log.lines else "")
    if problem := _not_a_latency(stats, average):
        return _unreadable(problem, f"count={stats.count} avg={average:g} us")
    if stats.mean is None or not math.isclose(stats.mean, average, rel_tol=1e-3):
        return _unreadable("The tool's summary does not fit its measured block.", f"{stats.mean} against {average}")
    if stats.count < request.runs or (stats.count > request.runs and not request.min_s):
        return _wrong_count(stats.count, average, request)
    return _missing_for_pass(log, request.purpose)


def _not_a_latency(stats: Stats | None, average: float | None) -> str:
    """Say why no latency can be what a log prints; empty if it may be one."""
    if stats and stats.count == 0:
        return "The tool ran no inference, as with --dry_run."
    if average is not None and average < FASTEST_US:
        return f"The tool printed a latency of {average:g} us, which no run of a model takes."
    return ""


def _missing_for_pass(log: BenchmarkLog, purpose: Pass) -> Failure | None:
    if purpose is Pass.MEMORY and not log.peak_memory_mb and not log.memory_overall_mb:
        return _unreadable("The tool printed no memory figures.", "")
    if purpose is Pass.MEMORY and (inherited := _inherited_peak(log)):
        return inherited
    if purpose is Pass.OP_PROFILE and not log.op_profile_order:
        return _unreadable("The tool printed no profile of its operators.", "")
    return None


def _inherited_peak(log: BenchmarkLog) -> Failure | None:
    """Return a failure if the peak is that of the process which the tool was started from, as Linux lets it inherit."""
    resident_mb = max((float(found[1]) for line in log.lines if (found := _RESIDENT.search(line.raw))), default=None)
    if resident_mb is None or log.peak_memory_mb is None or log.memory_overall_mb is None:
        return None
    at_start_mb = log.peak_memory_mb - log.memory_overall_mb
    if at_start_mb <= _MOST_AT_START * resident_mb:
        return None
    return _unreadable(
        f"The peak of {log.peak_memory_mb:g} MB is not the tool's own: it ended with {resident_mb:g} MB, "
        f"and had {at_start_mb:g} MB before it loaded the model.",
        f"peak {log.peak_memory_mb:g}, overall {log.memory_overall_mb:g}, VmRSS {resident_mb:g} MB",
    )


def _wrong_count(count: int, average_us: float, request: InvocationRequest) -> Failure:
    """Tell a model that is too slow for the tool's own time limit from a log that cannot be right."""
    evidence = f"count={count} avg={average_us:g} us"
    if count < request.runs and count * average_us > _MOST * request.max_s * _US_PER_S:
        return Failure(
            FailureClass.TIMEOUT,
            f"Only {count} of {request.runs} timed runs fitted into the tool's own limit of {request.max_s:g} s.",
            evidence,
        )
    return _unreadable(f"{count} timed runs were made, not the {request.runs} that were asked for.", evidence)


def _unreadable(message: str, evidence: str) -> Failure:
    return Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message, evidence)


def _signal_of(exit_code: int | None) -> int | None:
    """Return the signal that a shell reports as 128 + its number."""
    number = (exit_code or 0) - _SHELL_SIGNAL_BASE
    return number if 0 < number <= _LAST_SIGNAL else None


@dataclass(frozen=True)
class LogVerdict:
    """What a log alone proves, without the exit code of its process."""

    failure: Failure | None
    error_text: str | None
    delegation: Delegation | None
    """None if it is not known which delegate was asked for."""

    @property
    def ok(self) -> bool:
        """Return True if the run is a valid measurement, of whichever delegate."""
        return self.failure is None

    @property
    def error_class(self) -> FailureClass | None:
        """The class of what went wrong."""
        return self.failure.failure_class if self.failure else None

    @property
    def fell_back(self) -> bool | None:
        """Return True if nodes ran elsewhere than asked; None if the log, or the caller, does not say."""
        return self.delegation.fell_back if self.delegation else None


def judge_log(log: BenchmarkLog, requested: str | None = None) -> LogVerdict:
    """Judge one run. `requested` is the delegate that was asked for; None if that is not known."""
    delegation = conclude_delegation(log, requested) if requested else None
    errors = error_lines(log.lines)
    failure = _failure_in(log, has_errors=bool(errors))
    text = " / ".join(line.raw for line in errors) or (failure.evidence or failure.message if failure else "")
    return LogVerdict(failure, text if failure else None, delegation)


def _failure_in(log: BenchmarkLog, *, has_errors: bool) -> Failure | None:
    """Return why a log is no measurement; a complete run is one in spite of errors, after which the runtime went on."""
    known = find_failure(log.lines)
    average = log.inference_avg_us
    if known and known.failure_class is FailureClass.CRASHED:
        return known
    if problem := _not_a_latency(log.run_stats, average):
        return _unreadable(problem, "")
    is_complete = average is not None or log.litert_results is not None
    if is_complete or (log.measured and not has_errors):
        return None
    return known or _unreadable("The text holds no measurement of a benchmark_model.", "")


def log_as_dict(log: BenchmarkLog, requested: str | None = None) -> dict[str, Any]:
    """Return one run as plain values for JSON, with the field names of the design."""
    return verdict_as_dict(log, judge_log(log, requested))


def verdict_as_dict(log: BenchmarkLog, verdict: LogVerdict) -> dict[str, Any]:
    """Return one judged run as plain values. What an asked-for delegate took stands in place of what any took."""
    values: dict[str, Any] = {
        field: getattr(verdict, field) for field in ("ok", "error_class", "error_text", "fell_back")
    }
    for field in (
        "init_us",
        "first_inference_us",
        "warmup_avg_us",
        "inference_avg_us",
        "warmup_stats",
        "run_stats",
        "memory_init_mb",
        "memory_overall_mb",
        "memory_label",
        "peak_memory_mb",
        "op_profile",
        "op_profile_nodes",
        "op_profile_init_nodes",
        "model_file_mb",
        "session_init_ms",
        "unconsumed_flags",
        "option_runs",
        "litert_results",
        "accelerator_counter",
    ):
        values[field] = _plain(getattr(log, field))
    main = verdict.delegation or log.main_delegation
    explicit = explicitly_applied(log, verdict.delegation.requested) if verdict.delegation else log.main_explicit
    values |= {
        "delegations": [
            {
                "delegate": use.delegate,
                "delegated": use.delegated_nodes,
                "total": use.total_nodes,
                "partitions": use.partitions,
            }
            for use in log.delegates.uses
        ],
        "delegated_nodes": main.delegated_nodes if main else None,
        "total_nodes": main.total_nodes if main else None,
        "partitions": main.partitions if main else None,
        "explicit_apply": explicit.extent if explicit else None,
        "delegate_kernels": explicit.kernels if explicit else None,
    }
    return values


def _plain(value: object) -> object:
    """Turn value objects into dictionaries; statistics that the tool did not print are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(item) for key, item in vars(value).items() if item is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
