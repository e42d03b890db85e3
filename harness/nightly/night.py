"""One night: a lock, room on the disk, a sweep within its time, and what it says against the nights before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.analysis.comparison import SMALLEST_EFFECT
from harness.analysis.history.night_check import BY_DEFAULT, NightCheck, Trouble, check_night
from harness.benchmark.registry import ToolRegistry
from harness.errors import ExitCode
from harness.lab.device_source import open_site
from harness.nightly.disk import require_space
from harness.nightly.lock import night_lock
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.location import find_place
from harness.store.records import SweepStatus
from harness.store.store import Store
from harness.sweep.deadline import Deadline
from harness.sweep.runner import SweepOutcome, SweepRunner
from harness.sweep.time_budget import night_waves

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
    lab: str | None = None
    """The address of a lab's scheduler; None: phones are reached from this computer."""


@dataclass(frozen=True)
class NightOutcome:
    """How a night ended."""

    check: NightCheck
    interrupted: bool
    """By hand; a night whose time was up is no such thing."""
    fail_on: Collection[Trouble]
    unreached: Collection[str] = ()
    """Hosts that never answered."""

    @property
    def exit_code(self) -> ExitCode:
        """What the process tells its caller."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.check.is_empty:
            return ExitCode.NOTHING_TO_RUN_ON
        return ExitCode.CELL_FAILED if self.unreached or self.check.is_bad(self.fail_on) else ExitCode.OK


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
        deadline = deadline or Deadline(settings.until.timestamp() if settings.until else None)
        with open_site(settings.lab, str(settings.results), settings.spec, observer) as site:
            targets = site.targets(settings.spec.devices)
            if targets.notice:
                observer.note(targets.notice)
            with Store.open(settings.results) as store:
                waves = night_waves(store, settings.spec, deadline, observer)
                runner = SweepRunner(store, observer, registry=registry, stop=deadline, waves=waves, site=site)
                swept = runner.run(settings.spec, targets.names, takes_new=targets.takes_new)
                outcome = _judged(store, swept, settings, deadline)
                then(store, outcome)
    return outcome


def _judged(store: Store, swept: SweepOutcome, settings: NightSettings, deadline: Deadline) -> NightOutcome:
    check = check_night(store, swept.sweep_id, effect=settings.effect)
    if not deadline.interrupted and not check.troubled(Trouble.LEFT_OUT):
        store.finish_sweep(swept.sweep_id, SweepStatus.FINISHED)  # the time was up just after the last process
    return NightOutcome(check, deadline.interrupted, settings.fail_on, swept.unreached)
