"""Read a saved log of `benchmark_model` without the process that wrote it, as `harness parse-log` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import judge_log, verdict_as_dict
from harness.benchmark.invocation import Delegation


@dataclass(frozen=True)
class SavedRun:
    """One run of a saved log."""

    values: dict[str, Any]
    """Plain values for JSON, with the field names of the design."""
    verdict: str
    """One sentence: what went wrong, or which delegate ran."""
    advice: str
    is_good: bool
    """True if it is a valid measurement of the delegate that was asked for."""


def read_saved_log(text: str, requested: str | None = None) -> list[SavedRun]:
    """Return each run of a log. `requested` is the delegate that was asked for, if known."""
    found: list[SavedRun] = []
    for log in parse_log(text):
        verdict = judge_log(log, requested)
        values = verdict_as_dict(log, verdict)
        if verdict.failure:
            found.append(SavedRun(values, verdict.failure.message, verdict.failure.advice, is_good=False))
            continue
        reason = verdict.delegation.reason if verdict.delegation else ""
        found.append(SavedRun(values, _sentence(verdict.delegation), reason, is_good=not verdict.fell_back))
    return found


def _sentence(delegation: Delegation | None) -> str:
    if delegation is None:
        return "A valid measurement."
    if delegation.fell_back is None:
        return f"requested {delegation.requested}; the log does not show what ran."
    is_part = delegation.fell_back and delegation.achieved == delegation.requested
    elsewhere = ", and a part of it elsewhere" if is_part else ""
    return f"requested {delegation.requested}, ran {delegation.achieved}{elsewhere}."
