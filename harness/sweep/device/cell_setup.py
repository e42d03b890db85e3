"""What is found out about one cell before its blocks: how it loads, cold and warm, and how long it warms up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from harness.benchmark.benchmark_model.command import cache_flags
from harness.benchmark.invocation import Invocation, InvocationRequest, Pass
from harness.benchmark.tool import Tool
from harness.devices.device import Device
from harness.devices.fresh_folder import fresh_folder
from harness.spec.sweep import Measurement
from harness.store.records import Cell
from harness.store.store import Store
from harness.sweep.plan import PlannedInvocation
from harness.sweep.warm_up import StoredWindows, WarmUp, Window, Windows, find_warm_up


def stored_searches(store: Store, sweep_id: str) -> dict[str, dict[int, StoredWindows]]:
    """Return what a sweep that is carried on saw of each cell's warm-up, by the place in the search.

    The search goes on from there, and ends at once where it had ended: all processes of a cell warm up alike.
    """
    rows = store.invocations(sweep_id)
    complete = rows[["warmup_runs", "warmup_window_us", "timed_window_us"]].notna().all(axis=1)
    seen = rows[(rows["purpose"] == Pass.WARM_UP) & rows["failure_class"].isna() & complete]
    searches: dict[str, dict[int, StoredWindows]] = {}
    for row in seen.to_dict("records"):
        windows = StoredWindows(int(row["warmup_runs"]), row["warmup_window_us"], row["timed_window_us"])
        searches.setdefault(row["cell_key"], {})[int(row["invocation_index"])] = windows
    return searches


class Groundwork:
    """The first processes of the cells of one device. One that fails decides nothing: the latency pass will."""

    def __init__(
        self,
        device: Device,
        tool: Tool,
        measurement: Measurement,
        request: Callable[[PlannedInvocation], InvocationRequest],
        invoke: Callable[[PlannedInvocation, InvocationRequest], Invocation | None],
    ) -> None:
        """`request` builds what is asked as a rule; `invoke` runs it once, stores it, and returns None when stopped."""
        self._device = device
        self._tool = tool
        self._measurement = measurement
        self._request = request
        self._invoke = invoke

    def load_cold_and_warm(self, cell: Cell, done: Collection[tuple[str, Pass, int]]) -> None:
        """Load the model in pairs of processes, each with a cache folder that is empty at first (promise H17).

        Where the delegate keeps no cache, only the first process of the cell is its first load: there is one pair.
        Raises `DeviceError`.
        """
        folder = f"{self._device.work_folder}/cache"
        has_cache = bool(cache_flags(self._tool, cell.delegate, folder))
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
        request = replace(
            self._request(planned), runs=1, warmup_runs=1, warmup_min_s=0.0, cache_folder=cache_folder
        )  # fmt: skip
        outcome = self._invoke(planned, request)
        return outcome is not None and outcome.failure is None

    def warm_up(self, cell: Cell, earlier: Mapping[int, Windows]) -> WarmUp:
        """Find how long a cell warms up (promise H6). `earlier` is what a search that was interrupted saw, by index."""
        attempts = itertools.count()

        def measure(window: Window) -> Windows | None:
            index = next(attempts)
            if index in earlier:
                return earlier[index]
            planned = PlannedInvocation(cell, Pass.WARM_UP, index, block=index)
            request = replace(
                self._request(planned), runs=window.runs, min_s=window.seconds, warmup_runs=window.runs,
                warmup_min_s=window.seconds,
            )  # fmt: skip
            outcome = self._invoke(planned, request)
            return None if outcome is None or outcome.failure else outcome.measurement

        return find_warm_up(
            measure, limit=self._measurement.warmup_limit, shortest_s=self._measurement.warmup_min_s,
            longest_s=self._measurement.warmup_max_s,
        )  # fmt: skip
