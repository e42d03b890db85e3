"""Per-cell setup: cold and warm load, then warm-up length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.program import Feature, can
from harness.benchmark.tool import Tool
from harness.devices.device import Device, fresh_folder
from harness.spec.sweep import MeasurementSettings
from harness.store.records import Cell
from harness.store.store import Store
from harness.sweep.plan import PlannedInvocation


def stored_searches(store: Store, sweep_id: str) -> dict[str, dict[int, StoredWindows]]:
    """Return the stored warm-up searches of a resumed sweep, by cell key and index.

    A search continues from there, or ends at once if it had ended: all processes of a cell warm up alike.
    """
    searches: dict[str, dict[int, StoredWindows]] = {}
    for row in store.invocations(sweep_id, telemetry=False):
        if row.purpose != Pass.WARM_UP or row.failure_class is not None:
            continue
        if row.warmup_runs is None or row.warmup_window_us is None or row.timed_window_us is None:
            continue
        windows = StoredWindows(row.warmup_runs, row.warmup_window_us, row.timed_window_us)
        searches.setdefault(row.cell_key, {})[row.invocation_index] = windows
    return searches


class CellSetup:
    """The first processes of each cell. A failure here decides nothing: the latency pass does."""

    def __init__(
        self,
        device: Device,
        tool: Tool,
        measurement: MeasurementSettings,
        request: Callable[[PlannedInvocation], InvocationRequest],
        invoke: Callable[[PlannedInvocation, InvocationRequest], Invocation | None],
    ) -> None:
        """`request` builds the default request; `invoke` runs and stores it, and returns None if stopped."""
        self._device = device
        self._tool = tool
        self._measurement = measurement
        self._request = request
        self._invoke = invoke

    def load_cold_and_warm(self, cell: Cell, done: Collection[tuple[str, Pass, int]]) -> None:
        """Load the model in pairs of processes, each with a cache folder that is empty at first (promise H17).

        Without a cache, only the first process of the cell is its first load: there is one pair.
        Raises `DeviceError`.
        """
        folder = f"{self._device.work_folder}/cache"
        has_cache = can(self._tool, Feature.CACHE_FOLDER, cell.delegate)
        pairs = self._measurement.init_pairs if has_cache else min(self._measurement.init_pairs, 1)
        for pair in range(pairs):
            if (cell.key, Pass.INIT_WARM, pair) in done:
                continue
            with fresh_folder(self._device, folder):
                both = all(
                    self._loads(PlannedInvocation(cell, purpose, pair, block=pair), folder if has_cache else None)
                    for purpose in (Pass.INIT_COLD, Pass.INIT_WARM)
                )
            if not both:
                return

    def _loads(self, planned: PlannedInvocation, cache_folder: str | None) -> bool:
        request = replace(self._request(planned), runs=1, warmup_runs=1, warmup_min_s=0.0, cache_folder=cache_folder)
        outcome = self._invoke(planned, request)
        return outcome is not None and outcome.failure is None

    def warm_up(self, cell: Cell, stored: Mapping[int, Windows]) -> WarmUp:
        """Find how long a cell warms up (promise H6). `stored` holds the windows of an interrupted search, by index."""
        attempts = itertools.count()

        def measure(window: Window) -> Windows | None:
            index = next(attempts)
            if index in stored:
                return stored[index]
            planned = PlannedInvocation(cell, Pass.WARM_UP, index, block=index)
            request = replace(
                self._request(planned),
                runs=window.runs,
                min_s=window.seconds,
                warmup_runs=window.runs,
                warmup_min_s=window.seconds,
            )
            outcome = self._invoke(planned, request)
            return None if outcome is None or outcome.failure else outcome.measurement

        return find_warm_up(
            measure,
            limit=self._measurement.warmup_limit,
            shortest_s=self._measurement.warmup_min_s,
            longest_s=self._measurement.warmup_max_s,
        )


FEWEST_RUNS = 5
"""A window of fewer runs has no usable spread."""


@dataclass(frozen=True)
class Window:
    """Minimum runs and seconds, both of the warm-up of one process and of the timed part after it."""

    runs: int
    seconds: float


class Windows(Protocol):
    """The two windows that one process of the search measured; part of a `Measurement`."""

    @property
    def warmup_runs(self) -> int | None:
        """Runs before the timed ones."""

    @property
    def warmup_window_us(self) -> float | None:
        """Typical latency of a warm-up run."""

    @property
    def timed_window_us(self) -> float | None:
        """Typical latency of a timed run."""


@dataclass(frozen=True)
class StoredWindows:
    """The stored windows of one process of an interrupted search."""

    warmup_runs: int | None
    warmup_window_us: float | None
    timed_window_us: float | None


@dataclass(frozen=True)
class WarmUp:
    """The warm-up of every process of one cell."""

    runs: int
    min_s: float
    converged: bool | None
    """True if the runs after it were as fast as the runs in it; None if not tested."""


def find_warm_up(
    measure: Callable[[Window], Windows | None], *, limit: float, shortest_s: float, longest_s: float
) -> WarmUp:
    """Double the warm-up until it is as fast as the timed part, or `longest_s` is reached.

    `measure` runs one process whose warm-up and timed part are one window each; None if that failed. Two windows
    agree if their typical latencies differ by at most `limit` of the later one. Android's WarmupManager compares a
    fast moving average of single runs with a slow one; the tool prints no single runs, but it does print both windows
    of one process, which between them hold no noise of another start. The result is a number of runs, so that
    every process of the cell warms up alike.
    """
    window = Window(FEWEST_RUNS, shortest_s)
    while True:
        measured = measure(window)
        if measured is None or (difference := window_difference(measured)) is None:
            return default_warm_up(shortest_s)
        made = measured.warmup_runs or window.runs
        if abs(difference) <= limit:
            return WarmUp(made, 0.0, converged=True)
        if 2 * window.seconds > longest_s:
            return WarmUp(made, 0.0, converged=False)
        window = Window(2 * window.runs, 2 * window.seconds)


def default_warm_up(min_s: float) -> WarmUp:
    """Return the warm-up of a cell without a search: one run and a minimum time, as the tool does it."""
    return WarmUp(1, min_s, converged=None)


def window_difference(measured: Windows) -> float | None:
    """Return how much slower the warm-up was than the timed window, as a fraction; None if not printed."""
    if not measured.warmup_window_us or not measured.timed_window_us:
        return None
    return measured.warmup_window_us / measured.timed_window_us - 1
