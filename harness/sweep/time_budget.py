"""How the cells of one phone are divided where the night may be too short for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from harness.analysis.history.nights import CellName, CellNights, Night, read_nights
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.records import Cell
from harness.store.store import Store
from harness.sweep.context import Deadline
from harness.sweep.plan import Groups, outline


def night_groups(store: Store, spec: SweepSpec, deadline: Deadline, observer: Observer) -> Groups:
    """Return how to divide the cells of one device: all at once where the time is enough for all."""

    def groups(cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
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
        divided = groups_in_time(ordered, expected_s, deadline.left_s)
        observer.note(
            f"{cells[0].serial}: time is expected for {len(divided[0])} of {len(cells)} cells; "
            "the cells with the least certain latency come first."
        )
        return divided

    return groups


MARGIN = 1.5
"""A night may be so much slower than the last one, as on a hot phone, and cells measured in turns still get done."""
BETWEEN_PROCESSES_S = 0.2
"""Looks at the phone's state."""


def seconds_of_cells(store: Store, cells: Iterable[CellNights]) -> dict[CellName, float]:
    """Return for each cell what is to be allowed for it, seconds: what its last good night took, with a margin."""
    last = {cell.name: (cell.good[-1].sweep_id, cell.good[-1].cell_key) for cell in cells if cell.good}
    sweep_ids = sorted({sweep_id for sweep_id, _ in last.values()})
    spent: dict[tuple[str, str], float] = {}
    for row in store.time_spent(sweep_ids):
        at = (row.sweep_id, row.cell_key)
        spent[at] = spent.get(at, 0.0) + row.seconds + BETWEEN_PROCESSES_S * row.processes
    return {name: MARGIN * spent[place] for name, place in last.items()}


HALF_LIFE_DAYS = 3.0
"""After this many days a night counts half."""
LEAST_SPREAD = 0.005
"""No cell is so quiet that it need not be looked at again."""
UNKNOWN_SPREAD = 0.05
"""Of nights of a cell that has only one."""
_SECONDS_A_DAY = 86_400


def uncertainty(nights: Sequence[Night], now: datetime) -> float:
    """Return how little is known of a cell's latency, from its good nights that are alike: a relative standard error.

    The spread between nights over the square root of their number, where a night counts less the older it is. A cell
    that was never measured like this, or whose variant, tool or settings changed, is known infinitely little.
    """
    ages = [(now - night.started_at).total_seconds() / _SECONDS_A_DAY for night in nights]
    worth = sum(0.5 ** (max(age, 0.0) / HALF_LIFE_DAYS) for age in ages)
    if not worth:
        return math.inf
    logs = np.log([night.middle_us for night in nights])
    spread = float(logs.std(ddof=1)) if len(logs) > 1 else UNKNOWN_SPREAD
    return max(spread, LEAST_SPREAD) / math.sqrt(worth)


def most_informative_first(cells: Sequence[Cell], known: Mapping[CellName, CellNights], now: datetime) -> list[Cell]:
    """Order the cells of one device; equals stay as they are."""

    def key(cell: Cell) -> float:
        history = known.get(CellName(cell.serial, cell.variant_name, cell.delegate, cell.threads))
        nights = history.good if history else []
        return -uncertainty([night for night in nights if night.cell_key == cell.key], now)

    return sorted(cells, key=key)


def groups_in_time(
    ordered: Sequence[Cell], expected_s: Callable[[Cell], float], time_s: float
) -> Sequence[Sequence[Cell]]:
    """Divide cells so that as many as fit into the time are measured in turns, and the others one by one after them.

    Where all fit, that is one wave: then nothing is lost against a night without a limit.
    """
    spent_s, fitting = 0.0, 0
    for cell in ordered:
        spent_s += expected_s(cell)
        if spent_s > time_s:
            break
        fitting += 1
    first = max(fitting, 1)
    return [ordered[:first], *([cell] for cell in ordered[first:])] if ordered else []
