"""Parse the logs of `benchmark_model`, of every era, into one shape.

Field names are those of `harness parse-log --json`. Latencies are microseconds, memory is megabytes as the tool prints
them. The first `count=` block of a run is its warm-up and never read as the measurement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmark.benchmark_model.op_profile import OpProfileRow, parse_op_profile
from harness.benchmark.invocation import ProfiledNode
from harness.benchmark.log_lines import LogLine, split_lines

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_COUNT = re.compile(r"^(?:(?P<option>.*\S): )?count=(?P<count>\d{1,18})(?P<rest>(?: .*)?)$")
_STATISTIC = re.compile(rf"\b(first|curr|min|max|avg|std|p5|median|p95)=({_NUMBER})")
_HEADER = re.compile(r"Running benchmark for at least (\d+) iterations")
_TIMINGS = re.compile(r"(?:Inference|Average inference) timings in us: (?P<values>.*)")
_TIMING_NAMES = {
    "Init": "init_us",
    "First inference": "first_inference_us",
    "Warmup (avg)": "warmup_avg_us",
    "Warmup": "warmup_avg_us",
    "Inference (avg)": "inference_avg_us",
    "Inference": "inference_avg_us",
    "no stats": "inference_avg_us",
}
_TIMING = re.compile(rf"({'|'.join(map(re.escape, sorted(_TIMING_NAMES, key=len, reverse=True)))}): ({_NUMBER})")
_MEMORY = re.compile(
    rf"(?P<label>Memory footprint delta from the start of the tool \(MB\)|Peak memory footprint \(MB\)): "
    rf"init=(?P<init>{_NUMBER}) overall=(?P<overall>{_NUMBER})"
)
_PEAK_MEMORY = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})")
_MODEL_SIZE = re.compile(rf"The input model file size \(MB\): ({_NUMBER})")
_SESSION = re.compile(rf"Initialized session in ({_NUMBER})ms")
_REPLACING = re.compile(
    r"Replacing (?P<delegated>\d{1,18}) out of (?P<total>\d{1,18}) node\(s\) "
    r"with delegate \((?P<delegate>[^)]*)\) node, yielding (?P<partitions>\d{1,18}) partitions"
)
_EXPLICIT = re.compile(
    r"Explicitly applied (?P<delegate>.*?) delegate, and the model graph will be "
    r"(?P<extent>completely|partially) executed(?: by the delegate w/ (?P<kernels>\d{1,18}) delegate kernels)?"
)
_NOT_EXECUTED = re.compile(
    r"Though (?P<delegate>.*?) delegate is explicitly applied, the model graph will not be executed"
)
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags: (.*)")
_INTEGER = re.compile(r"\d{1,18}")
_INFERENCE_COUNTER = re.compile(r"cat \S*/inference_count\b")


@dataclass(frozen=True)
class Stats:
    """One `count=` line. The tool leaves out what it cannot say: one sample has only `count` and `curr`."""

    count: int
    first: float | None = None
    curr: float | None = None
    min: float | None = None
    max: float | None = None
    avg: float | None = None
    std: float | None = None
    p5: float | None = None
    median: float | None = None
    p95: float | None = None

    @property
    def mean(self) -> float | None:
        """The average; for equal samples the tool prints only `curr`."""
        return self.avg if self.avg is not None else self.curr

    @property
    def mean_without_slowest(self) -> float | None:
        """The average of all samples but the slowest, so that one hiccup does not speak for all."""
        if self.mean is None or self.max is None or self.count <= 1:
            return self.mean
        return (self.mean * self.count - self.max) / (self.count - 1)


@dataclass(frozen=True)
class DelegateUse:
    """One `Replacing N out of M node(s)` line."""

    delegate: str
    delegated: int
    total: int
    partitions: int


@dataclass(frozen=True)
class ExplicitDelegate:
    """The tool's own sentence about a delegate that it had to apply."""

    delegate: str
    extent: str
    """`complete`, `partial` or `none`."""
    kernels: int | None = None


@dataclass(frozen=True)
class OptionRun:
    """One line of the performance-options tool's summary."""

    option: str
    stats: Stats


@dataclass(frozen=True)
class BenchmarkLog:
    """What one run's log says. None: the log does not say it."""

    init_us: float | None = None
    first_inference_us: float | None = None
    warmup_avg_us: float | None = None
    inference_avg_us: float | None = None
    warmup_stats: Stats | None = None
    run_stats: Stats | None = None
    memory_init_mb: float | None = None
    memory_overall_mb: float | None = None
    memory_label: str | None = None
    peak_memory_mb: float | None = None
    delegations: tuple[DelegateUse, ...] = ()
    explicit: tuple[ExplicitDelegate, ...] = ()
    op_profile_nodes: tuple[OpProfileRow, ...] | None = None
    op_profile_init_nodes: tuple[OpProfileRow, ...] | None = None
    op_profile_order: tuple[ProfiledNode, ...] = ()
    model_file_mb: float | None = None
    session_init_ms: float | None = None
    unconsumed_flags: tuple[str, ...] = ()
    option_runs: tuple[OptionRun, ...] = ()
    litert_results: dict[str, float | str | None] | None = None
    """The result block of LiteRT's tool, as it prints it."""
    accelerator_counter: int | None = None
    """Inferences that the accelerator's own counter saw, where the log shows that it was read afterwards."""
    lines: tuple[LogLine, ...] = ()

    @property
    def op_profile(self) -> bool:
        """Return True if the log holds an op profile."""
        return self.op_profile_nodes is not None or self.op_profile_init_nodes is not None

    @property
    def main_explicit(self) -> ExplicitDelegate | None:
        """The explicitly applied delegate that counts: the last accelerator, else XNNPACK."""
        accelerators = [explicit for explicit in self.explicit if explicit.delegate != "XNNPACK"]
        chosen = accelerators or list(self.explicit)
        return chosen[-1] if chosen else None

    @property
    def explicit_apply(self) -> str | None:
        """How far the explicitly applied delegate took the graph."""
        return self.main_explicit.extent if self.main_explicit else None

    @property
    def delegate_kernels(self) -> int | None:
        """Into how many kernels it took its part."""
        return self.main_explicit.kernels if self.main_explicit else None

    @property
    def main_delegation(self) -> DelegateUse | None:
        """The delegation line that counts: the last of an accelerator, else the last of XNNPACK."""
        accelerators = [use for use in self.delegations if "XNNPack" not in use.delegate]
        chosen = accelerators or list(self.delegations)
        return chosen[-1] if chosen else None

    @property
    def delegated_nodes(self) -> int | None:
        """Nodes that the delegate took."""
        return self.main_delegation.delegated if self.main_delegation else None

    @property
    def total_nodes(self) -> int | None:
        """Nodes of the graph."""
        return self.main_delegation.total if self.main_delegation else None

    @property
    def partitions(self) -> int | None:
        """Pieces that the graph was cut into."""
        return self.main_delegation.partitions if self.main_delegation else None

    @property
    def measured(self) -> bool:
        """Return True if there is anything measured in this log, complete or not."""
        average = self.run_stats.mean if self.run_stats else None
        timed = (self.inference_avg_us, average, self.option_runs or None, self.litert_results)
        return self.op_profile or any(value is not None for value in timed)


def parse_log(text: str) -> list[BenchmarkLog]:
    """Parse a log with one run or several; a text that holds none gives one empty log. Never raises."""
    return [_parse_run(lines) for lines in _split_runs(split_lines(text))]


def _split_runs(lines: Sequence[LogLine]) -> list[list[LogLine]]:
    """Cut before each `STARTING!`, and after each summary that is followed by another without one."""
    starts = [index for index, line in enumerate(lines) if line.text == "STARTING!"]
    if not starts:
        summaries = [index for index, line in enumerate(lines) if _TIMINGS.search(line.text)]
        starts = [0, *(index + 1 for index in summaries[:-1])]
    starts[0] = 0  # what stands before the first run (a command line, a shell's error) belongs to it
    ends = [*starts[1:], len(lines)]
    return [list(lines[start:end]) for start, end in zip(starts, ends, strict=True)]


def _parse_run(lines: Sequence[LogLine]) -> BenchmarkLog:
    timings: dict[str, Any] = _timings(lines)
    warmup, measured, options = _stats_blocks(lines, timings.get("warmup_avg_us"), timings.get("inference_avg_us"))
    profile = parse_op_profile(lines)
    unconsumed = _last_match(_UNCONSUMED, lines)
    litert = _litert_results(lines)
    return BenchmarkLog(
        **timings,
        warmup_stats=warmup,
        run_stats=measured,
        option_runs=options,
        **_memory(lines, litert),
        peak_memory_mb=_group(_last_match(_PEAK_MEMORY, lines), 1),
        delegations=tuple(
            DelegateUse(match["delegate"], int(match["delegated"]), int(match["total"]), int(match["partitions"]))
            for match in (_REPLACING.search(line.text) for line in lines)
            if match
        ),
        explicit=_explicit_delegates(lines),
        op_profile_nodes=profile.operators,
        op_profile_init_nodes=profile.initialization,
        op_profile_order=profile.nodes,
        model_file_mb=_group(_last_match(_MODEL_SIZE, lines), 1),
        session_init_ms=_group(_last_match(_SESSION, lines), 1),
        unconsumed_flags=tuple(unconsumed[1].split()) if unconsumed else (),
        litert_results=litert,
        accelerator_counter=_accelerator_counter(lines),
        lines=tuple(lines),
    )


def _memory(lines: Sequence[LogLine], litert: dict[str, float | str | None] | None) -> dict[str, Any]:
    match = _last_match(_MEMORY, lines)
    names = ("memory_init_mb", "memory_overall_mb", "memory_label")
    if match:
        return dict(zip(names, (_number(match["init"]), _number(match["overall"]), match["label"]), strict=True))
    if litert:
        values = (litert["init_footprint_mb"], litert["overall_footprint_mb"], _LITERT_MEMORY_LABEL)
        return dict(zip(names, values, strict=True))
    return {}


def _explicit_delegates(lines: Sequence[LogLine]) -> tuple[ExplicitDelegate, ...]:
    found: list[ExplicitDelegate] = []
    for line in lines:
        if match := _EXPLICIT.search(line.text):
            extent = {"completely": "complete", "partially": "partial"}[match["extent"]]
            kernels = int(match["kernels"]) if match["kernels"] else None
            found.append(ExplicitDelegate(match["delegate"], extent, kernels))
        elif match := _NOT_EXECUTED.search(line.text):
            found.append(ExplicitDelegate(match["delegate"], "none"))
    return tuple(found)


def _last_match(pattern: re.Pattern[str], lines: Iterable[LogLine]) -> re.Match[str] | None:
    found = None
    for line in lines:
        found = pattern.search(line.text) or found
    return found


def _group(match: re.Match[str] | None, group: str | int) -> float | None:
    return _number(match[group]) if match else None


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _timings(lines: Sequence[LogLine]) -> dict[str, float | None]:
    match = _last_match(_TIMINGS, lines)
    found = dict(_TIMING.findall(match["values"])) if match else {}
    return {_TIMING_NAMES[name]: _number(value) for name, value in found.items()}


def _stats_blocks(
    lines: Sequence[LogLine], warmup_avg_us: float | None, inference_avg_us: float | None
) -> tuple[Stats | None, Stats | None, tuple[OptionRun, ...]]:
    """Return (warm-up, measured, performance options) of one run's `count=` lines."""
    blocks: list[Stats] = []
    options: list[OptionRun] = []
    headers = 0
    for line in lines:
        headers += bool(_HEADER.search(line.text))
        match = _COUNT.match(line.text)
        if not match:
            continue
        stats = Stats(int(match["count"]), **_statistics(match["rest"]))
        if match["option"] is None:
            blocks.append(stats)
        elif not match["option"].startswith(("Timings", "Memory")):  # those belong to the op profile
            options.append(OptionRun(match["option"].strip(), stats))
    if len(blocks) > 1:
        return blocks[0], blocks[-1], tuple(options)
    if not blocks:
        return None, None, tuple(options)
    if _is_warmup(blocks[0], headers, warmup_avg_us, inference_avg_us):
        return blocks[0], None, tuple(options)
    return None, blocks[0], tuple(options)


def _is_warmup(block: Stats, headers: int, warmup_avg_us: float | None, inference_avg_us: float | None) -> bool:
    """Tell which of the two the only block of a shortened log is: by the summary, else by the headers before it."""
    mean = block.mean
    if mean is not None and inference_avg_us is not None and math.isclose(mean, inference_avg_us, rel_tol=1e-4):
        return False
    if mean is not None and warmup_avg_us is not None and math.isclose(mean, warmup_avg_us, rel_tol=1e-4):
        return True
    return headers == 1


def _statistics(text: str) -> dict[str, float | None]:
    return {name: _number(value) for name, value in _STATISTIC.findall(text)}


_LITERT_MEMORY_LABEL = "Init footprint / Overall footprint"
_LITERT_BLOCK = "BENCHMARK RESULTS"
_LITERT_VALUES = {
    "model_initialization_ms": rf"Model initialization:\s+({_NUMBER}) ms",
    "warmup_first_ms": rf"Warmup \(first\):\s+({_NUMBER}) ms",
    "warmup_avg_ms": rf"Warmup \(avg\):\s+({_NUMBER}) ms",
    "warmup_runs": r"Warmup \(avg\):\s+\S+ ms \((\d+) runs\)",
    "inference_avg_ms": rf"Inference \(avg\):\s+({_NUMBER}) ms",
    "inference_runs": r"Inference \(avg\):\s+\S+ ms \((\d+) runs\)",
    "inference_min_ms": rf"Inference \(min\):\s+({_NUMBER}) ms",
    "inference_max_ms": rf"Inference \(max\):\s+({_NUMBER}) ms",
    "inference_std": rf"Inference \(std\):\s+({_NUMBER})",
    "throughput_mb_s": rf"Throughput:\s+({_NUMBER}) MB/s",
    "init_footprint_mb": rf"Init footprint:\s+({_NUMBER}) MB",
    "overall_footprint_mb": rf"Overall footprint:\s+({_NUMBER}) MB",
    "peak_memory_mb": rf"Peak memory usage:\s+({_NUMBER}) MB",
}


def _litert_results(lines: Sequence[LogLine]) -> dict[str, float | str | None] | None:
    start = next((index for index, line in enumerate(lines) if _LITERT_BLOCK in line.text), None)
    if start is None:
        return None
    block = "\n".join(line.text for line in lines[start:])
    results: dict[str, float | str | None] = {}
    signature = re.search(r"Signature name:\s+(\S+)", block)
    if signature:
        results["signature"] = signature[1]
    for name, pattern in _LITERT_VALUES.items():
        match = re.search(pattern, block)
        results[name] = _number(match[1]) if match else None
    return results


def _accelerator_counter(lines: Sequence[LogLine]) -> int | None:
    for index, line in enumerate(lines[:-1]):
        if _INFERENCE_COUNTER.search(line.text) and _INTEGER.fullmatch(lines[index + 1].text):
            return int(lines[index + 1].text)
    return None
