"""Compare stored sweeps, and decide what to ship."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.tables import TableResult
from harness.errors import UsageError
from harness.paths import default_results
from harness.text import require_choice

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.cell_comparison import ComparedCells
    from harness.analysis.decision import Decision


@dataclass(frozen=True)
class Comparison(TableResult):
    """The compared pairs of cells, the most urgent first."""

    cells: tuple[ComparedCells, ...]
    by: str
    effect: float
    """Smallest relative difference that matters, such as 0.02."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair of cells, with the columns of `harness compare --json`."""
        import pandas as pd

        from harness.report.terminal.comparison import finding_rows

        return pd.DataFrame(finding_rows(self.cells))

    def caption(self) -> str:
        """Say what was compared."""
        return f"Comparison by {self.by}; differences below {self.effect:.1%} do not matter."

    def fails_on(self, regressions: Collection[str]) -> bool:
        """Return True if B has one of these regressions, or if nothing could be compared: such a gate saw nothing."""
        from harness.analysis.cell_comparison import Regression

        if not regressions:
            return False
        blind = all(Regression.REFUSED in cells.regressions for cells in self.cells)
        return blind or any(name in regressions for cells in self.cells for name in cells.regressions)


def compare(
    a: str | None = None,
    b: str | None = None,
    *,
    by: str = "sweep",
    baseline: str | None = None,
    effect: float = 0.02,
    allow: Collection[str] = (),
    results: str | Path | None = None,
) -> Comparison:
    """Compare two sweeps, or the variants or delegates of one sweep, and report only differences above the noise.

    `a` (before) and `b` (now) are `SWEEP` or `SWEEP:VARIANT`, by default `latest~1` and `latest`. With `by="variant"`
    or `"delegate"`, everything in sweep `a` is compared with `baseline`. `effect` is the smallest relative difference
    that matters. `allow` names conditions that may differ, such as `os`. Raises `UsageError`.

    Example: `harness.compare("latest", by="variant").to_frame()`
    """
    from harness.analysis.cell_comparison import Subject, compare_cells, pairs_between, pairs_inside
    from harness.analysis.comparable_cell import CONDITIONS
    from harness.analysis.device_noise import read_noise
    from harness.store.store import Store

    require_choice("by", by, [subject.value for subject in Subject])
    for name in allow:
        require_choice("allow", name, list(CONDITIONS))
    with Store.open(str(results or default_results()), must_exist=True) as store:
        found = (
            pairs_between(store, a or "latest~1", b or "latest")
            if by == Subject.SWEEP
            else pairs_inside(store, a or "latest", b, Subject(by), baseline)
        )
        compared = compare_cells(found.pairs, read_noise(store, found.cells), effect=effect, allow=allow)
    if not compared:
        raise UsageError("A and B have no cell in common.", "Run `harness results show SWEEP` to see what each holds.")
    return Comparison(tuple(compared), by, effect)


@dataclass(frozen=True)
class Decisions(TableResult):
    """What to ship on each device of one sweep."""

    sweep_id: str
    devices: tuple[Decision, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per device: what to ship, why, and what to know with it."""
        import pandas as pd

        columns = ("device", "serial", "ship", "headline")
        rows = [
            {name: getattr(each, name) for name in columns} | {"notes": "\n".join(each.notes)} for each in self.devices
        ]
        return pd.DataFrame(rows, columns=[*columns, "notes"])

    def caption(self) -> str:
        """Name the sweep."""
        return f"Decisions from sweep {self.sweep_id}"


def decide(
    sweep: str = "latest",
    *,
    max_drop_points: float | None = 1.0,
    max_size_kb: float | None = None,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    results: str | Path | None = None,
) -> Decisions:
    """Decide which variant and delegate to ship on each device of a stored sweep.

    The limits are percentage points of top-1 lost against the float model, kB of file, ms of median latency and MB of
    memory; None sets no limit. An A/A sweep decides nothing. Raises `UsageError` if there is no such sweep.

    Example: `harness.decide("latest", max_latency_ms=10).devices[0].headline`
    """
    from harness.analysis.decision import decide as decide_each
    from harness.analysis.shipping.choice import ShipLimits
    from harness.analysis.sweep_data import read_sweep_data
    from harness.store.store import Store

    limits = ShipLimits(max_drop_points, max_size_kb, max_latency_ms, max_memory_mb)
    with Store.open(str(results or default_results()), must_exist=True) as store:
        record = store.find_sweep(sweep)
        return Decisions(record.id, tuple(decide_each(read_sweep_data(store, record, telemetry=False), limits)))
