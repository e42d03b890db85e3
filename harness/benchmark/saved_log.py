"""Read a saved log of `benchmark_model` without the process that wrote it, as `harness parse-log` does."""

from __future__ import annotations

from typing import Any

from harness.benchmark.benchmark_model.log import parse_log
from harness.benchmark.benchmark_model.outcome import log_as_dict


def read_saved_log(text: str, requested: str | None = None) -> list[dict[str, Any]]:
    """Return each run of a log as plain values for JSON. `requested` is the delegate that was asked for, if known."""
    return [log_as_dict(log, requested) for log in parse_log(text)]
