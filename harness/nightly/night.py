"""One night: a lock, room on the disk, a sweep within its time, and what it says against the nights before."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from harness.analysis.comparison import SMALLEST_EFFECT
from harness.analysis.history.night_check import BY_DEFAULT, NightCheck, Trouble, check_night
from harness.benchmark.registry import ToolRegistry
from harness.errors import ExitCode, MissingPrerequisiteError, UsageError
from harness.progress import Observer
from harness.spec.sweep import SweepSpec
from harness.store.location import find_location
from harness.store.records import SweepStatus
from harness.store.store import Store
from harness.sweep.context import Deadline
from harness.sweep.device_source import AdbSource, DeviceSource
from harness.sweep.preflight import check_sweep
from harness.sweep.runner import SweepOutcome, SweepRunner
from harness.sweep.time_budget import night_groups

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
    source: AbstractContextManager[DeviceSource] | None = None,
    *,
    registry: ToolRegistry | None = None,
    deadline: Deadline | None = None,
    then: Callable[[Store, NightOutcome], None] = lambda _store, _outcome: None,
) -> NightOutcome:
    """Run one night on the phones of `source`, by default those that this computer reaches.

    `then` writes the files of the night while the lock is still held.

    Raises `MissingPrerequisiteError` if another night is running, there is no room, or nothing can be measured.
    """
    folder = find_location(settings.results).folder
    with night_lock(folder):
        require_space(folder, settings.least_free_gb)
        deadline = deadline or Deadline(settings.until.timestamp() if settings.until else None)
        with source or nullcontext(AdbSource(settings.spec.hosts)) as site:
            checked = check_sweep(settings.spec, site, observer, registry=registry)
            with Store.open(settings.results) as store:
                groups = night_groups(store, settings.spec, deadline, observer)
                runner = SweepRunner(store, observer, registry=registry, stop=deadline, groups=groups, site=site)
                swept = runner.run(settings.spec, checked.names, takes_new=checked.takes_new)
                outcome = _judged(store, swept, settings, deadline)
                then(store, outcome)
    return outcome


def _judged(store: Store, swept: SweepOutcome, settings: NightSettings, deadline: Deadline) -> NightOutcome:
    check = check_night(store, swept.sweep_id, effect=settings.effect)
    if not deadline.interrupted and not check.troubled(Trouble.LEFT_OUT):
        store.finish_sweep(swept.sweep_id, SweepStatus.FINISHED)  # the time was up just after the last process
    return NightOutcome(check, deadline.interrupted, settings.fail_on, swept.unreached)


_LOCK_NAME = "nightly.lock"
_HOLDER_NAME = "nightly.holder.json"


@contextmanager
def night_lock(results: Path) -> Iterator[None]:
    """Hold the night of a results folder for a `with` block.

    Raises `MissingPrerequisiteError` that names who holds it, and `UsageError` if the folder cannot be written.
    """
    holder = results / _HOLDER_NAME
    lock = FileLock(results / _LOCK_NAME, timeout=0)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise MissingPrerequisiteError(
            f"Another night is running in {results}: {_told(holder)}.",
            "Wait until it ends, stop that process, or give this night a folder of its own with --results.",
        ) from None
    except OSError as error:
        raise UsageError(
            f"Cannot write to the results folder {results}: {error.strerror}.", "Choose another folder with --results."
        ) from error
    try:
        with suppress(OSError):  # a full disk: whether there is room is somebody else's question
            started = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
            holder.write_text(json.dumps({"process": os.getpid(), "host": platform.node(), "started": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        known = json.loads(holder.read_text())
        return f"process {known['process']} on {known['host']} since {known['started']}"
    except (OSError, ValueError, KeyError):  # between taking the lock and writing the file
        return "a process that has not recorded its name yet"


_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def next_time(text: str, now: datetime) -> datetime:
    """Return the next moment at which clocks show `text`, such as `06:00`, in the zone of `now`. Raises `UsageError`.

    The clock of the wall counts: in a night with a change to summer time, an hour less is left.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"Invalid value {text!r} for --until.", "Use a time of day, such as 06:00.")
    wall = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0, tzinfo=None)
    if wall <= now.replace(tzinfo=None):
        wall += timedelta(days=1)
    return wall.replace(tzinfo=now.tzinfo) if now.tzinfo else wall.astimezone()


GIGABYTE = 1e9


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def require_space(folder: Path, least_gb: float, *, free_bytes: Callable[[Path], int] = _free_bytes) -> None:
    """Raise `MissingPrerequisiteError` if a folder's disk has less room than a night may need."""
    free_gb = free_bytes(folder) / GIGABYTE
    if free_gb < least_gb:
        raise MissingPrerequisiteError(
            f"Only {free_gb:.1f} GB are free in {folder}; a night needs {least_gb:g} GB.",
            "Free some space, or lower the limit with --min-free-gb.",
        )
