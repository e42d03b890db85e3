"""Parse the logs of `benchmark_model`, of every era, into one shape.

Field names are those of `harness parse-log --json`. Latencies are microseconds, memory is megabytes as the tool prints
them. The first `count=` block of a run is its warm-up and never read as the measurement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.benchmark.benchmark_model.cut_short import without_cut_figure
from harness.benchmark.benchmark_model.delegate_lines import (
    DelegateLines,
    DelegateUse,
    ExplicitDelegate,
    read_delegate_lines,
)
from harness.benchmark.benchmark_model.op_profile import OpProfileRow, parse_op_profile
from harness.benchmark.benchmark_model.runs import split_runs
from harness.benchmark.delegates import find_delegate
from harness.benchmark.invocation import ProfiledNode
from harness.benchmark.log_lines import LogLine, is_named, split_lines

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_COUNT = re.compile(r"^(?:(?P<option>.*\S): )?count=(?P<count>\d{1,18})(?P<rest>(?: .*)?)$")
_STATISTIC = re.compile(rf"\b(first|curr|min|max|avg|std|p5|median|p95)=({_NUMBER})")
_TIMINGS = re.compile(r"(?:Inference|Average inference) timings in us: (?P<values>\w[^:]{0,40}: [-+]?[\d.].*)")
_TIMING_NAMES = {
    "Init": "init_us",
    "First inference": "first_inference_us",
    "Warmup (avg)": "warmup_avg_us",
    "Warmup": "warmup_avg_us",
    "Inference (avg)": "inference_avg_us",
    "Inference": "inference_avg_us",
    "no stats": "inference_avg_us",
}
_TIMING = re.compile(rf"({'|'.join(map(re.escape, sorted(_TIMING_NAMES, key=len, reverse=True)))}): ({_NUMBER})(,?)")
_MEMORY = re.compile(
    rf"(Memory footprint delta from the start of the tool \(MB\)|Peak memory footprint \(MB\)): "
    rf"init=({_NUMBER}) overall=({_NUMBER})"
)
_PEAK_MEMORY = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})")
_MODEL_SIZE = re.compile(rf"The input model file size \(MB\): ({_NUMBER})")
_SESSION = re.compile(rf"Initialized session in ({_NUMBER}) ?ms")
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags: (.*)")
_CPU_DELEGATES = (*find_delegate("cpu").log_names, "Flex")
_INTEGER = re.compile(r"\d{1,18}")
_INFERENCE_COUNTER = re.compile(r"cat \S{0,200}/inference_count\b")


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
        """The average; for equal samples the tool prints only `curr`. None for a line that was cut before it."""
        return self.avg if self.avg is not None or self.first is not None else self.curr

    @property
    def mean_without_slowest(self) -> float | None:
        """The average of all samples but the slowest, so that one hiccup does not speak for all."""
        if self.mean is None or self.max is None or self.count <= 1:
            return self.mean
        return (self.mean * self.count - self.max) / (self.count - 1)


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
    delegates: DelegateLines = field(default_factory=DelegateLines)
    op_profile_nodes: tuple[OpProfileRow, ...] | None = None
    op_profile_init_nodes: tuple[OpProfileRow, ...] | None = None
    op_profile_order: tuple[ProfiledNode, ...] = ()
    has_profile_table: bool = False
    """True if any table of an op profile begins, even if the log ends before its summary."""
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
        """Return True if the log holds an op profile, or the beginning of one."""
        return self.has_profile_table or self.op_profile_nodes is not None or self.op_profile_init_nodes is not None

    @property
    def main_explicit(self) -> ExplicitDelegate | None:
        """The explicitly applied delegate that counts: the last accelerator that took nodes, else any, else XNNPACK."""
        explicit = self.delegates.explicit
        accelerators = [line for line in explicit if not is_named(line.delegate, _CPU_DELEGATES)]
        chosen = [line for line in accelerators if line.extent != "none"] or accelerators or explicit
        return chosen[-1] if chosen else None

    @property
    def signature(self) -> str | None:
        """The signature that ran, if the log names it."""
        named = self.litert_results and self.litert_results.get("signature")
        return str(named) if named else None

    @property
    def main_delegation(self) -> DelegateUse | None:
        """What the last accelerator, else XNNPACK, took of the graph that ran."""
        graph = self.delegates.main_graph(self.signature)
        if graph is None:
            return None
        uses = self.delegates.graphs()[graph]
        accelerators = [use for use in uses if not is_named(use.delegate, _CPU_DELEGATES)]
        return self.delegates.shares((accelerators or uses)[-1].delegate.__eq__)[graph]

    @property
    def measured(self) -> bool:
        """Return True if this log holds a figure that was measured, even if it was shortened."""
        average = self.run_stats.mean if self.run_stats else None
        timed = (self.inference_avg_us, average, self.option_runs or None, self.litert_results)
        profiled = (self.op_profile_nodes, self.op_profile_init_nodes)
        return any(value is not None for value in (*timed, *profiled))


def parse_log(text: str) -> list[BenchmarkLog]:
    """Parse a log with one run or several; a text that holds none gives one empty log. Never raises."""
    lines = split_lines(text)
    whole = lines if text.endswith("\n") else without_cut_figure(lines)
    return [_parse_run(run) for run in split_runs(whole)]


def _parse_run(lines: Sequence[LogLine]) -> BenchmarkLog:
    timings: dict[str, Any] = _timings(lines)
    warmup, measured, options = _stats_blocks(lines, timings.get("warmup_avg_us"), timings.get("inference_avg_us"))
    profile = parse_op_profile(lines)
    unconsumed = _last_match(_UNCONSUMED, "Unconsumed ", lines)
    litert = _litert_results(lines)
    return BenchmarkLog(
        **timings,
        warmup_stats=warmup,
        run_stats=measured,
        option_runs=options,
        **_memory(lines, litert),
        peak_memory_mb=_peak_memory(lines, litert),
        delegates=read_delegate_lines(lines),
        op_profile_nodes=profile.operators,
        op_profile_init_nodes=profile.initialization,
        op_profile_order=profile.nodes,
        has_profile_table=profile.has_table,
        model_file_mb=_first_number(_MODEL_SIZE, "The input model ", lines),
        session_init_ms=_first_number(_SESSION, "Initialized session ", lines),
        unconsumed_flags=tuple(unconsumed[1].split()) if unconsumed else (),
        litert_results=litert,
        accelerator_counter=_accelerator_counter(lines),
        lines=tuple(lines),
    )


def _memory(lines: Sequence[LogLine], litert: dict[str, float | str | None] | None) -> dict[str, Any]:
    match = _last_match(_MEMORY, "emory footprint ", lines)
    names = ("memory_init_mb", "memory_overall_mb", "memory_label")
    if match:
        return dict(zip(names, (_number(match[2]), _number(match[3]), match[1]), strict=True))
    values = (litert["init_footprint_mb"], litert["overall_footprint_mb"]) if litert else (None, None)
    return {} if values == (None, None) else dict(zip(names, (*values, _LITERT_MEMORY_LABEL), strict=True))


def _last_match(pattern: re.Pattern[str], word: str, lines: Sequence[LogLine]) -> re.Match[str] | None:
    """Return the last match of a pattern; only lines with `word` are searched, since most are noise in a long log."""
    matches = (pattern.search(line.text) for line in reversed(lines) if word in line.text)
    return next(filter(None, matches), None)


def _first_number(pattern: re.Pattern[str], word: str, lines: Sequence[LogLine]) -> float | None:
    match = _last_match(pattern, word, lines)
    return _number(match[1]) if match else None


def _peak_memory(lines: Sequence[LogLine], litert: dict[str, float | str | None] | None) -> float | None:
    peak = _first_number(_PEAK_MEMORY, "Overall peak ", lines)
    of_litert = litert.get("peak_memory_mb") if litert else None
    return of_litert if peak is None and isinstance(of_litert, float) else peak


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _timings(lines: Sequence[LogLine]) -> dict[str, float | None]:
    match = _last_match(_TIMINGS, " timings in us: ", lines)
    found = _TIMING.findall(match["values"]) if match else []
    if found and _TIMING_NAMES[found[-1][0]] != "inference_avg_us" and not found[-1][2]:
        found.pop()  # the line was cut off, perhaps within this figure
    return {_TIMING_NAMES[name]: _number(value) for name, value, _ in found}


def _stats_blocks(
    lines: Sequence[LogLine], warmup_avg_us: float | None, inference_avg_us: float | None
) -> tuple[Stats | None, Stats | None, tuple[OptionRun, ...]]:
    """Return (warm-up, measured, performance options) of one run's `count=` lines."""
    blocks: list[Stats] = []
    options: list[OptionRun] = []
    headers = headers_before = 0
    for line in lines:
        headers += "Running benchmark for at least " in line.text
        match = _COUNT.match(line.text) if "count=" in line.text else None
        if not match:
            continue
        stats = Stats(int(match["count"]), **_statistics(match["rest"]))
        if match["option"] is None:
            headers_before = headers if not blocks else headers_before
            blocks.append(stats)
        elif not match["option"].startswith(("Timings", "Memory")):  # those belong to the op profile
            options.append(OptionRun(match["option"].strip(), stats))
    if len(blocks) > 1:
        return blocks[0], blocks[-1], tuple(options)
    if not blocks:
        return None, None, tuple(options)
    is_first = headers_before == 1 or (headers_before == 0 and headers > 0)
    if _is_warmup(blocks[0], warmup_avg_us, inference_avg_us, is_first=is_first):
        return blocks[0], None, tuple(options)
    return None, blocks[0], tuple(options)


def _is_warmup(block: Stats, warmup_avg_us: float | None, inference_avg_us: float | None, *, is_first: bool) -> bool:
    """Return True if the only block of a shortened log is the warm-up: by the summary, else by its headers."""
    mean = block.mean
    if mean is not None and inference_avg_us is not None and math.isclose(mean, inference_avg_us, rel_tol=1e-4):
        return False
    if mean is not None and warmup_avg_us is not None and math.isclose(mean, warmup_avg_us, rel_tol=1e-4):
        return True
    return is_first


def _statistics(text: str) -> dict[str, float | None]:
    matches = list(_STATISTIC.finditer(text))
    names = {match[1] for match in matches}
    is_cut = ("first" in names and "std" not in names) or ("p5" in names and "p95" not in names)
    if is_cut and not text[matches[-1].end() :].strip():
        matches.pop()  # the line ends in this figure, perhaps in the middle of it
    return {match[1]: _number(match[2]) for match in matches}


_LITERT_MEMORY_LABEL = "Init footprint / Overall footprint"
_LITERT_BLOCK = ("BENCHMARK RESULTS", "Signature name: ", "Model initialization: ")
"""What its result block begins with; people leave out the title."""
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
    "peak_memory_mb": rf"Peak memory(?: usage)?:\s+({_NUMBER}) MB",
}


def _litert_results(lines: Sequence[LogLine]) -> dict[str, float | str | None] | None:
    start = next((index for index, line in enumerate(lines) if is_named(line.text, _LITERT_BLOCK)), None)
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
