"""What one invocation of the tool is asked for, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.errors import Failure


class Pass(StrEnum):
    """Latency and memory come from separate processes, since each monitor disturbs the other."""

    LATENCY = "latency"
    MEMORY = "memory"


@dataclass(frozen=True)
class Delegation:
    """Which delegate was asked for and what the log proves about the one that ran."""

    requested: str
    achieved: str
    """`gpu`, `nnapi`, `cpu` (XNNPACK) or `cpu-builtin` (reference kernels)."""
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    partitions: int | None = None
    fell_back: bool | None = None
    """True: all or part ran elsewhere than asked. None: the log does not tell."""
    reason: str = ""
    """The runtime's own sentence, where it gives one."""


@dataclass(frozen=True)
class Measurement:
    """The timed block of one invocation. All latencies are microseconds, all memory megabytes (10^6 or as printed)."""

    delegation: Delegation
    runs: int
    latency_avg_us: float
    latency_min_us: float | None
    latency_max_us: float | None
    latency_std_us: float | None
    latency_median_us: float | None
    """Only where the tool prints it."""
    init_us: float
    first_inference_us: float | None
    memory_init_mb: float | None
    memory_overall_mb: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Invocation:
    """One process of the tool: a measurement xor a failure, always with its raw log."""

    command: tuple[str, ...]
    log: str
    """stdout, a marker line, stderr."""
    wall_s: float
    measurement: Measurement | None = None
    failure: Failure | None = None
