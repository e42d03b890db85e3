"""What each piece of a model takes on each delegate of a device, and what crossing between pieces costs."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.accuracy.on_device import AccuracyTarget, CheckData, measure_accuracy
from harness.accuracy.reference import HostOutputs
from harness.analysis.result_row import ResultRow
from harness.analysis.summary import summarize
from harness.benchmark.delegates import find_delegate
from harness.benchmark.invocation import InvocationRequest, Pass, ProfiledNode
from harness.benchmark.invoke import invoke
from harness.benchmark.program import Feature, can, program_of, push_tool
from harness.benchmark.registry import ToolRegistry, with_flags
from harness.benchmark.tool import Tool
from harness.datasets.labelled import random_samples
from harness.devices.cores import choose_measured_cores
from harness.devices.device import Device
from harness.devices.profiles import match_profile
from harness.errors import DeviceError, Failure, FailureClass, FailureError, UsageError
from harness.partition.graph import Graph
from harness.partition.placement import Cost, Table
from harness.paths import cache_folder
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.store import Store
from harness.sweep.runner import sweep_variants
from harness.sweep.targets import opened
from harness.tflite.variant import Variant

_COPY = 'head -c "$1" /dev/zero | wc -c'
"""Says how much went through, so that a phone without one of the two is found out."""
_COPIED_BYTES = 256_000_000
_FEWEST_COPIES, _MOST_COPIES = 200, 100_000
_TRIES = 3
_TIMEOUT_S = 120.0
_US_PER_S = 1e6


@dataclass(frozen=True)
class MeasuredPieces:
    """Latencies by delegate, microseconds; None if a piece does not run as asked, or computes another thing."""

    sweep_id: str
    whole_us: Mapping[str, float | None]
    pieces_us: Mapping[str, tuple[float | None, ...]]
    whole_processor_us: Mapping[str, float | None]
    """Processor time of one inference, all threads together; None if `whole_us` is, too."""
    pieces_processor_us: Mapping[str, tuple[float | None, ...]]
    start_us: Mapping[str, float]
    """Initialisation and first inference of the slowest piece, by delegate."""
    reasons: tuple[str, ...]
    """Why something is None, one sentence each."""
    wrong: Mapping[str, Failure]
    """What is wrong with the outputs of the whole, by delegate, also if the delegate took it in part."""

    @property
    def whole_costs(self) -> dict[str, Cost | None]:
        """What one inference of the whole takes, by delegate; None if it does not run there."""
        return {
            delegate: _cost(time_us, self.whole_processor_us[delegate]) for delegate, time_us in self.whole_us.items()
        }

    def table(self, crossing_us: Sequence[float]) -> Table:
        """Return what placements are made of; `crossing_us` is what coming into each piece takes."""
        costs = {
            delegate: tuple(map(_cost, times_us, self.pieces_processor_us[delegate]))
            for delegate, times_us in self.pieces_us.items()
        }
        return Table(costs, crossing_us, self.whole_costs)


def _cost(time_us: float | None, processor_us: float | None) -> Cost | None:
    return None if time_us is None or processor_us is None else Cost(time_us, processor_us)


def measure_pieces(
    whole: Variant,
    pieces: Sequence[Variant],
    spec: SweepSpec,
    device: Device,
    *,
    core_mask: str | None,
    store: Store,
    registry: ToolRegistry,
    observer: Observer,
) -> MeasuredPieces:
    """Sweep the whole and its pieces in turns, and check what accelerators compute. Raises `DeviceError`.

    `core_mask` is that of the sweep: processor time is measured on the same cores.
    """
    sweep_id = sweep_variants([whole, *pieces], spec, device, store=store, registry=registry, observer=observer)
    rows = {(row.variant or "", row.delegate_requested or ""): row for row in summarize(store, sweep_id)}
    delegates = list(dict.fromkeys(delegate for _, delegate in rows if delegate))
    judge = _Judge(rows, device, registry, spec, core_mask)
    observer.begin("processor time", len(delegates) * (len(pieces) + 1))
    found: dict[tuple[str, str], _Found] = {}
    for delegate in delegates:
        for variant in (whole, *pieces):
            observer.advance("processor time", f"{variant.name} on {delegate}")
            found[variant.name, delegate] = judge.find(variant, delegate)
    observer.end("processor time")
    return MeasuredPieces(
        sweep_id,
        whole_us={delegate: found[whole.name, delegate].time_us for delegate in delegates},
        pieces_us={delegate: tuple(found[piece.name, delegate].time_us for piece in pieces) for delegate in delegates},
        whole_processor_us={delegate: found[whole.name, delegate].processor_us for delegate in delegates},
        pieces_processor_us={
            delegate: tuple(found[piece.name, delegate].processor_us for piece in pieces) for delegate in delegates
        },
        start_us={delegate: max(_start_us(rows, piece, delegate) for piece in pieces) for delegate in delegates},
        reasons=tuple(reason for one in found.values() for reason in one.reasons),
        wrong={delegate: wrong for delegate in delegates if (wrong := found[whole.name, delegate].wrong)},
    )


@dataclass(frozen=True)
class _Found:
    time_us: float | None
    processor_us: float | None
    reasons: tuple[str, ...] = ()
    wrong: Failure | None = None


class _Judge:
    """Decides what may be placed, and measures the processor time of that."""

    def __init__(
        self,
        rows: Mapping[tuple[str, str], ResultRow],
        device: Device,
        registry: ToolRegistry,
        spec: SweepSpec,
        core_mask: str | None,
    ) -> None:
        self._rows, self._device, self._spec, self._core_mask = rows, device, spec, core_mask
        self._tool = registry.choose(device.facts())
        self._checked = _Checked(device, self._tool, spec)

    def find(self, variant: Variant, delegate: str) -> _Found:
        """Return the costs of a variant on a delegate, or why there are none."""
        row = self._rows.get((variant.name, delegate))
        name = f"{variant.name} on {delegate}"
        if row is None or row.latency_median_us is None:
            reason = (row.failure_message if row else "") or "it was not measured."
            return _Found(None, None, (f"{name}: {reason}",))
        wrong = self._checked.failure(variant, delegate)
        if wrong:
            return _Found(None, None, (f"{name}: {wrong.message}",), wrong)
        if row.fell_back and not find_delegate(delegate).is_cpu:
            return _Found(None, None, (f"{name}: it ran elsewhere, or in part.",))
        time_us = row.latency_median_us
        used_us = processor_us(
            self._device,
            self._tool,
            self._device.push(variant.path),
            delegate,
            threads=self._spec.threads[0],
            latency_us=time_us,
            core_mask=self._core_mask,
        )
        if used_us is None:
            untold = f"{name}: its processor time could not be measured; one core is taken to be busy all the time."
            return _Found(time_us, time_us, (untold,))
        return _Found(time_us, used_us)


def _start_us(rows: Mapping[tuple[str, str], ResultRow], piece: Variant, delegate: str) -> float:
    row = rows.get((piece.name, delegate))
    return (row.init_median_us or 0.0) + (row.first_inference_median_us or 0.0) if row else 0.0


class _Checked:
    """Outputs of accelerators against the host's run of the same piece, on random inputs (promise H14)."""

    def __init__(self, device: Device, tool: Tool, spec: SweepSpec) -> None:
        self._device, self._tool, self._spec = device, tool, spec
        self._reference = HostOutputs(cache_folder() / "reference")

    def failure(self, variant: Variant, delegate: str) -> Failure | None:
        """Return what is wrong with the outputs; None if nothing is, or the CPU computed them."""
        if find_delegate(delegate).is_cpu:
            return None
        target = AccuracyTarget(
            self._device,
            self._tool,
            push_tool(self._device, self._tool),
            variant,
            self._device.push(variant.path),
            delegate,
            self._spec.threads[0],
            self._spec.measurement.timeout_s,
        )
        evidence = CheckData(random_samples(variant.card.inputs), self._reference, None, self._spec.output_limits)
        return measure_accuracy(target, evidence).failure


def crossing_us(device: Device, size_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> float:
    """Return what it takes to hand this many bytes from one process of the device to another, through a pipe.

    An upper bound for stages in one process, which share memory. Raises `DeviceError`, also for a phone that cannot.
    """
    if not size_bytes:
        return 0.0
    copies = min(max(_COPIED_BYTES // size_bytes, _FEWEST_COPIES), _MOST_COPIES)

    def seconds(count: int) -> float:
        started = clock()
        result = device.run(["sh", "-c", _COPY, "sh", str(size_bytes * count)], timeout_s=_TIMEOUT_S)
        taken_s = clock() - started
        if result.stdout.strip() != str(size_bytes * count):
            message = "What crossing costs cannot be measured: the phone has no `head -c` or no `wc`."
            raise DeviceError(Failure(FailureClass.INTERNAL, message, result.stderr.strip()))
        return taken_s

    idle_s = min(seconds(1) for _ in range(_TRIES))  # starting the processes, and the way there and back
    copying_s = min(seconds(copies) for _ in range(_TRIES))
    return max(copying_s - idle_s, 0.0) / copies * _US_PER_S


_KERNELS = "cpu-builtin"
_NUMBERED = re.compile(r"^\[.*\]:(?P<operator>\d+)$")
_RUNS = 20
_PROFILE_TIMEOUT_S = 300.0
_US_PER_MS = 1000.0


def measure_steps(variant: Variant, graph: Graph, name: str) -> list[float]:
    """Return microseconds for each of `graph.steps` on the device called `name`.

    Raises `UsageError` if the device's tool has no op profile, `FailureError` if it failed, and `DeviceError`.
    """
    registry = ToolRegistry()
    with opened(name, registry) as device:
        tool = registry.choose(device.facts())
        tool_path = push_tool(device, tool)
        tool = with_flags(tool, registry, device, tool_path)
        if not can(tool, Feature.OP_PROFILE):
            raise UsageError(
                f"The tool {tool.name} tells no time by operator, which --by time needs.",
                "Add one that does (`harness tools add`), or cut by work: --by work.",
            )
        request = InvocationRequest(device.push(variant.path), _KERNELS, purpose=Pass.OP_PROFILE, runs=_RUNS)
        mask = choose_measured_cores(device, match_profile(device.facts()).cores).mask
        run = invoke(device, tool, tool_path, request, timeout_s=_PROFILE_TIMEOUT_S, core_mask=mask)
    if run.failure:
        raise FailureError(run.failure)
    return step_times(graph, program_of(tool).profiled_nodes(run.log))


def step_times(graph: Graph, nodes: Iterable[ProfiledNode]) -> list[float]:
    """Return microseconds for each of `graph.steps`. Raises `FailureError` for a profile of another graph."""
    times_us: dict[int, float] = defaultdict(float)
    for node in nodes:
        if numbered := _NUMBERED.match(node.name):
            times_us[int(numbered["operator"])] += node.avg_ms * _US_PER_MS * node.times_called
    missing = [graph.operators[step].name for step in graph.steps if step not in times_us]
    if missing:
        message = f"The op profile tells nothing of {len(missing)} operators, such as {missing[0]}."
        raise FailureError(Failure(FailureClass.TOOL_OUTPUT_UNREADABLE, message))
    return [times_us[step] for step in graph.steps]


_TELL_TIMES = """
"$@"
code=$?
echo harness-processor-time: >&2
times >&2
exit $code
"""
_TOLD = re.compile(r"^harness-processor-time:\s*\n.*\n\s*(\d+)m([\d.]+)s\s+(\d+)m([\d.]+)s", re.MULTILINE)
"""The first line of `times` is the shell's own: user and system time; the second its children's."""
_MEASURED_US = 1e6
_FEWEST_RUNS = 5

_S_PER_MINUTE = 60


def processor_us(
    device: Device, tool: Tool, model: str, delegate: str, *, threads: int, latency_us: float, core_mask: str | None
) -> float | None:
    """Return the processor time of one inference, microseconds; None if the tool fails or nothing tells it.

    `model` is the file on the device, and `latency_us` decides how many runs make about a second.
    """
    if program_of(tool).host_only:
        return None
    tool_path = push_tool(device, tool)
    timed = tool.model_copy(update={"launcher": ("sh", "-c", _TELL_TIMES, "sh", *(tool.launcher or (tool_path,)))})

    def used_us(runs: int) -> float | None:
        request = InvocationRequest(
            model, delegate, threads, purpose=Pass.SUSTAINED, runs=runs, warmup_min_s=0.0, max_s=_TIMEOUT_S
        )
        run = invoke(device, timed, tool_path, request, timeout_s=2 * _TIMEOUT_S, core_mask=core_mask)
        return children_us(run.log) if run.measurement else None

    more_runs = max(_FEWEST_RUNS, round(_MEASURED_US / latency_us))
    few, many = used_us(1), used_us(1 + more_runs)
    return max(many - few, 0.0) / more_runs if few is not None and many is not None else None


def children_us(log: str) -> float | None:
    """Return the processor time that the shell reported for its children; None if it reported none."""
    told = _TOLD.search(log)
    if not told:
        return None
    minutes, seconds = int(told[1]) + int(told[3]), float(told[2]) + float(told[4])
    return (minutes * _S_PER_MINUTE + seconds) * _US_PER_S
