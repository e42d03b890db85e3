"""Which cells a night that has not enough time measures first: those of whose latency the least is known now."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np

from harness.analysis.history.nights import CellName, CellNights, Night
from harness.store.records import Cell

HALF_LIFE_DAYS = 3.0
"""After so many days a night says half as much of a cell as it does now."""
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


def waves_in_time(
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
