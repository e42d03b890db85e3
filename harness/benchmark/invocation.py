"""What one invocation of the tool is asked for, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.devices.device import CommandResult
from harness.errors import Failure


class Pass(StrEnum):
    """Each kind of figure comes from processes of its own, since each monitor disturbs the others."""

    LATENCY = "latency"
    MEMORY = "memory"
    OP_PROFILE = "op_profile"
    """Where the time goes, operator by operator; its latency is not used."""
    WARM_UP = "warm_up"
    """Looks for the number of runs that warm a cell up; its latency is not used."""
    INIT_COLD = "init_cold"
    """The first load of a model, with an empty cache where the delegate keeps one."""
    INIT_WARM = "init_warm"
    """The load after that."""
    SUSTAINED = "sustained"
    """One window of minutes without a pause; heat is what it looks for."""


class ExecutedBy(StrEnum):
    """Where a profiled node ran."""

    DELEGATE = "delegate"
    """Inside a delegate. The profile does not name it: next to a GPU that took a part, XNNPACK may hold the rest."""
    BUILTIN = "cpu-builtin"
    """A kernel of the runtime's own, on the CPU."""


@dataclass(frozen=True)
class InputFile:
    """Raw bytes for one input tensor: `shape` may carry a batch; `path` is on the device."""

    name: str
    shape: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class InvocationRequest:
    """One process of the tool: which model, how, and how often. Paths are on the device."""

    model: str
    delegate: str
    """`cpu`, `cpu-builtin`, `gpu`, `nnapi` or `nnapi:ACCELERATOR`."""
    threads: int = 1
    purpose: Pass = Pass.LATENCY
    runs: int = 50
    """Exactly this many timed runs, read back from the log."""
    warmup_runs: int = 1
    warmup_min_s: float = 0.5
    min_s: float = 0.0
    """Above zero: `runs` is the fewest, and the timed part goes on until so much time has passed."""
    max_s: float = 150.0
    runs_per_s: float | None = None
    """Begin no more runs a second than these, and catch up after a late one; None: one right after the other."""
    inputs: tuple[InputFile, ...] = ()
    """Empty: the tool makes random inputs."""
    require_full_delegation: bool = False
    """An accelerator that leaves nodes to the CPU is a failure, by the tool's own check where it has one."""
    cache_folder: str | None = None
    """Where the delegate keeps what it compiled, if the tool lets it; None: nowhere."""
    output_file: str | None = None
    """Where the tool writes the raw bytes of all outputs."""


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
class OperatorTime:
    """What all nodes of one kind in one place took in one inference."""

    operator: str
    """The node type as the tool prints it: an operator of TFLite, or what the delegate calls its own steps."""
    place: ExecutedBy
    nodes: int
    time_us: float


@dataclass(frozen=True)
class ProfiledNode:
    """One node in the order of execution; `avg_ms` is of one call. Nodes inside a delegate are named `Delegate/...`."""

    node_type: str
    name: str
    avg_ms: float
    times_called: int


FASTEST_US = 0.05
"""Reading the clock twice takes longer; a shorter latency is no run of a model."""


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
    warmup_runs: int | None = None
    """Runs before the timed ones, as the log tells."""
    warmup_window_us: float | None = None
    """What a run of the warm-up took typically: the median where both blocks print one, else the mean of all runs but
    the slowest, which in a warm-up is the first as a rule."""
    timed_window_us: float | None = None
    """The same of the timed runs."""
    operators: tuple[OperatorTime, ...] = ()
    """Of the pass that profiles; the slowest first."""


@dataclass(frozen=True)
class Invocation:
    """One process of the tool: a measurement xor a failure, always with its raw log.

    A throttled one alone has both: what it measured is kept next to the reason why it does not count.
    """

    command: tuple[str, ...]
    """The tool's own command line, without what pins it to cores and samples clocks next to it."""
    log: str
    """stdout, a marker line, stderr."""
    wall_s: float
    measurement: Measurement | None = None
    failure: Failure | None = None
    cores_allowed: str | None = None
    """Hexadecimal mask of the usable cores, as the kernel reported after the start; None if not requested."""


STREAM_MARK = "\n----- stderr -----\n"
"""Stands between stdout and stderr in a kept log; a program may write evidence to both."""


def join_streams(result: CommandResult) -> str:
    """Return the raw log to keep: stdout, the mark, stderr."""
    return result.stdout + STREAM_MARK + result.stderr
