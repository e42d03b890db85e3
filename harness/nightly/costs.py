"""How long cells took in earlier nights."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select

from harness.analysis.history.nights import CellName, CellNights
from harness.store import schema
from harness.store.store import Store

MARGIN = 1.5
"""A night may be so much slower than the last one, as on a hot phone, and cells measured in turns still get done."""
BETWEEN_PROCESSES_S = 0.2
"""Looks at the phone's state."""


def seconds_of_cells(store: Store, cells: Iterable[CellNights]) -> dict[CellName, float]:
    """Return for each cell what is to be allowed for it, seconds: what its last good night took, with a margin."""
    last = {cell.name: (cell.good[-1].sweep_id, cell.good[-1].cell_key) for cell in cells if cell.good}
    sweep_ids = sorted({sweep_id for sweep_id, _ in last.values()})
    spent: dict[tuple[str, str], float] = {}
    for table in (schema.invocations, schema.accuracies):
        place = (table.c.sweep_id, table.c.cell_key)
        query = select(*place, func.sum(table.c.wall_s).label("seconds"), func.count().label("processes"))
        for row in store.read(query.where(table.c.sweep_id.in_(sweep_ids)).group_by(*place)):
            at = (row["sweep_id"], row["cell_key"])
            spent[at] = spent.get(at, 0.0) + row["seconds"] + BETWEEN_PROCESSES_S * row["processes"]
    return {name: MARGIN * spent[place] for name, place in last.items()}
