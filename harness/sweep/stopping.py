"""When a cell has been measured often enough: sequential stopping, cell by cell (promise H8)."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.statistics import enough
from harness.benchmark.invocation import Invocation, Pass
from harness.spec.sweep import MeasurementSettings
from harness.store.rows import InvocationRow
from harness.sweep.plan import PlannedInvocation


class Stopping:
    """Collects the latencies of one device's cells; asked between blocks, it says which cells need no more."""

    def __init__(self, measurement: MeasurementSettings, stored: Iterable[InvocationRow]) -> None:
        """Begin with `stored`: the invocations of a sweep that is resumed, every attempt in the order of time."""
        self._measurement = measurement
        self._latencies: dict[str, dict[int, float]] = {}
        for row in stored:
            if row.purpose == Pass.LATENCY and row.failure_class is None and row.latency_us is not None:
                self._latencies.setdefault(row.cell_key, {})[row.invocation_index] = row.latency_us

    def note(self, planned: PlannedInvocation, invocation: Invocation) -> None:
        """Take in one finished process; one that failed, or throttled, is no value."""
        measured = invocation.measurement
        if planned.purpose is Pass.LATENCY and measured and not invocation.failure:
            latency = measured.latency_avg_us if measured.latency_median_us is None else measured.latency_median_us
            self._latencies.setdefault(planned.cell.key, {})[planned.index] = latency

    def latencies_us(self, planned: PlannedInvocation) -> list[float]:
        """Return the latencies of the cell so far, the latest last; none for a pass that is not timed."""
        return list(self._latencies.get(planned.cell.key, {}).values()) if planned.purpose is Pass.LATENCY else []

    def is_enough(self, planned: PlannedInvocation) -> bool:
        """Return True if a process of the plan can be left out: its cell's interval is as narrow as asked."""
        width = self._measurement.interval_width
        if planned.purpose is not Pass.LATENCY or not width:
            return False
        latencies = list(self._latencies.get(planned.cell.key, {}).values())
        return enough(latencies, width, fewest=self._measurement.fewest_invocations, most=self._measurement.invocations)
