"""How the cells of one phone are divided where the night may be too short for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from harness.analysis.history.nights import CellName, read_nights
from harness.nightly.costs import seconds_of_cells
from harness.nightly.priority import most_informative_first, waves_in_time
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.records import Cell
from harness.store.store import Store
from harness.sweep.deadline import Deadline
from harness.sweep.outline import outline
from harness.sweep.plan import Waves


def night_waves(store: Store, spec: SweepSpec, deadline: Deadline, observer: Observer) -> Waves:
    """Return how to divide the cells of one device: all at once where the time is enough for all."""

    def waves(cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        if deadline.left_s == float("inf") or not cells:
            return [cells]
        known = {cell.name: cell for cell in read_nights(store, serial=cells[0].serial)}
        spent_s = seconds_of_cells(store, known.values())

        def expected_s(cell: Cell) -> float:
            name = CellName(cell.serial, cell.variant_name, cell.delegate, cell.threads)
            return spent_s[name] if name in spent_s else outline(spec, {cell.serial: [cell.delegate]})[0].expected_s

        if sum(map(expected_s, cells)) <= deadline.left_s:
            return [cells]
        ordered = most_informative_first(cells, known, datetime.now(UTC))
        divided = waves_in_time(ordered, expected_s, deadline.left_s)
        observer.note(
            f"{cells[0].serial}: the time is expected to be enough for {len(divided[0])} of {len(cells)} cells; "
            "those of whose latency the least is known come first."
        )
        return divided

    return waves
