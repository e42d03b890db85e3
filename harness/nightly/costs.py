"""How long cells took in earlier nights."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select

from harness.results import schema
from harness.results.nights import CellName, CellNights
from harness.results.store import Store

BETWEEN_PROCESSES = 1.25
"""What a night takes over the time of its processes: looks at the phone, waits for it to cool."""


def seconds_of_cells(store: Store, cells: Iterable[CellNights]) -> dict[CellName, float]:
    """Return for each cell what its last good night took, all passes and attempts together, seconds."""
    last = {cell.name: (cell.good[-1].sweep_id, cell.good[-1].cell_key) for cell in cells if cell.good}
    sweep_ids = sorted({sweep_id for sweep_id, _ in last.values()})
    spent: dict[tuple[str, str], float] = {}
    for table in (schema.invocations, schema.accuracies):
        place = (table.c.sweep_id, table.c.cell_key)
        query = select(*place, func.sum(table.c.wall_s).label("seconds"))
        for row in store.rows(query.where(table.c.sweep_id.in_(sweep_ids)).group_by(*place)):
            at = (row["sweep_id"], row["cell_key"])
            spent[at] = spent.get(at, 0.0) + row["seconds"]
    return {name: BETWEEN_PROCESSES * spent[place] for name, place in last.items()}
