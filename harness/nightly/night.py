"""One night: a lock, room on the disk, a sweep within its time, and what it says against the nights before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.benchmark.registry import ToolRegistry
from harness.errors import ExitCode
from harness.nightly.costs import seconds_of_cells
from harness.nightly.disk import require_space
from harness.nightly.lock import night_lock
from harness.nightly.priority import most_informative_first, waves_in_time
from harness.progress import Observer
from harness.results.comparison import SMALLEST_EFFECT
from harness.results.night_check import BY_DEFAULT, NightCheck, Trouble, check_night
from harness.results.nights import CellName, read_nights
from harness.results.place import find_place
from harness.results.records import Cell, SweepStatus
from harness.results.store import Store
from harness.spec.sweep import SweepSpec
from harness.sweep.deadline import Deadline
from harness.sweep.outline import outline
from harness.sweep.plan import Waves
from harness.sweep.runner import SweepRunner
from harness.sweep.targets import choose_targets

DEFAULT_LEAST_FREE_GB = 2.0


@dataclass(frozen=True)
class NightSettings:
    """What one night is to do."""

    spec: SweepSpec
    results: str | Path
    """A folder, or a database's URL."""
    until: datetime | None = None
    """When it stops measuring, with a time zone."""
    fail_on: Collection[Trouble] = BY_DEFAULT
    effect: float = SMALLEST_EFFECT
    """Smallest relative difference that matters."""
    least_free_gb: float = DEFAULT_LEAST_FREE_GB


@dataclass(frozen=True)
class NightOutcome:
    """How a night ended."""

    check: NightCheck
    interrupted: bool
    """By hand; a night whose time was up is no such thing."""
    fail_on: Collection[Trouble]

    @property
    def exit_code(self) -> ExitCode:
        """What the process tells its caller."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.check.is_empty:
            return ExitCode.NOTHING_TO_RUN_ON
        return ExitCode.CELL_FAILED if self.check.is_bad(self.fail_on) else ExitCode.OK


def run_night(
    settings: NightSettings,
    observer: Observer,
    *,
    registry: ToolRegistry | None = None,
    deadline: Deadline | None = None,
    then: Callable[[Store, NightOutcome], None] = lambda _store, _outcome: None,
) -> NightOutcome:
    """Run one night; `then` writes what is to be kept of it, while the lock is still held.

    Raises `NothingToRunOnError` where another night is running, there is no room, or nothing can be measured.
    """
    folder = find_place(settings.results).folder
    with night_lock(folder):
        require_space(folder, settings.least_free_gb)
        targets = choose_targets(settings.spec.devices, settings.spec.hosts)
        if targets.notice:
            observer.note(targets.notice)
        deadline = deadline or Deadline(settings.until.timestamp() if settings.until else None)
        with Store.open(settings.results) as store:
            waves = _waves(store, settings.spec, deadline, observer)
            runner = SweepRunner(store, observer, registry=registry, stop=deadline, waves=waves)
            sweep_id = runner.run(settings.spec, targets.names).sweep_id
            check = check_night(store, sweep_id, effect=settings.effect)
            if not deadline.interrupted and not check.troubled(Trouble.LEFT_OUT):
                store.finish_sweep(sweep_id, SweepStatus.FINISHED)  # the time was up just after the last process
            outcome = NightOutcome(check, deadline.interrupted, settings.fail_on)
            then(store, outcome)
    return outcome


def _waves(store: Store, spec: SweepSpec, deadline: Deadline, observer: Observer) -> Waves:
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
