"""Remove old sweeps, rows and raw logs: whole sweeps only, and never one that is being measured.

A sweep's folder is marked before its rows go, in one transaction (with its logs, where those are rows too), and the
folder goes last. A prune that is killed in between leaves either a marked folder whose rows are still there, which
means nothing, or one whose rows are gone, which the next prune removes. A folder without a mark is never touched:
another store may share the results folder. Of a folder that is a symbolic link only the link goes: whose the target is,
nobody here knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.store.locks import in_use, may_run
from harness.store.records import SweepRecord, sweep_folder
from harness.store.store import Store

MARK = "removed-by-harness"
"""Name of the file that marks a folder which is about to go."""


@dataclass(frozen=True)
class OldSweep:
    """A sweep that may go, and how much goes with it."""

    record: SweepRecord
    invocations: int
    log_files: int
    log_bytes: int

    def as_json(self) -> dict[str, object]:
        """Return the facts as JSON values."""
        return {
            "sweep_id": self.record.id,
            "started_at_utc": self.record.as_json()["started_at_utc"],
            "status": self.record.status.value,
            "invocations": self.invocations,
            "log_files": self.log_files,
            "log_bytes": self.log_bytes,
        }


@dataclass(frozen=True)
class Pruning:
    """What a prune would do."""

    sweeps: Sequence[OldSweep]
    """The oldest first."""
    kept_running: Sequence[str]
    """Ids of sweeps that are old enough, but are being measured, or may be on another computer."""
    leftovers: Sequence[Path]
    """Folders that an earlier prune was killed in front of."""

    @property
    def log_bytes(self) -> int:
        """Bytes of raw logs that go, leftovers aside."""
        return sum(sweep.log_bytes for sweep in self.sweeps)


def plan_pruning(
    store: Store, *, now: datetime, keep: int | None = None, older_than: timedelta | None = None, noise: bool = False
) -> Pruning:
    """Choose what goes: all but the `keep` newest sweeps, and of these only what is `older_than` that.

    A/A sweeps are what `harness compare` knows the noise of a device from: they are counted apart, and go only with
    `noise`. Raises `UsageError` if neither limit is given.
    """
    if keep is None and older_than is None:
        raise UsageError("Nothing says what is old.", "Give --keep N, --older-than 90d, or both.")
    known = store.sweeps()  # the newest first
    kinds = [[sweep for sweep in known if not sweep.is_noise]]
    kinds += [[sweep for sweep in known if sweep.is_noise]] if noise else []
    old = [
        sweep
        for kind in kinds
        for sweep in kind[keep or 0 :]
        if older_than is None or sweep.started_at < now - older_than
    ]
    running = {sweep.id for sweep in old if may_run(store.locks, sweep)}
    return Pruning(
        _measured(store, [sweep for sweep in reversed(old) if sweep.id not in running]),
        sorted(running),
        _leftovers(store, {sweep.id for sweep in known}),
    )


def plan_removal(store: Store, names: Sequence[str]) -> Pruning:
    """Choose the sweeps of these names, which `find_sweep` takes. Raises `UsageError`, also for a running sweep."""
    chosen = list({sweep.id: sweep for sweep in map(store.find_sweep, names)}.values())
    if running := [sweep.id for sweep in chosen if may_run(store.locks, sweep)]:
        raise in_use(running[0])
    return Pruning(_measured(store, chosen), (), ())


def _measured(store: Store, sweeps: Sequence[SweepRecord]) -> list[OldSweep]:
    counts = store.count_invocations()
    sizes = [store.logs.size(sweep.id) for sweep in sweeps]
    return [
        OldSweep(sweep, counts.get(sweep.id, 0), logs.files, logs.size_bytes)
        for sweep, logs in zip(sweeps, sizes, strict=True)
    ]


def _folder(store: Store, sweep_id: str) -> Path:
    """Return the folder of a sweep's logs. Raises `HarnessError` rather than to name the results folder itself."""
    folder = store.folder / sweep_folder(sweep_id)
    if folder == store.folder:
        raise HarnessError("A sweep without an id cannot be removed.", "This is a fault of harness.")
    return folder


def _leftovers(store: Store, known: set[str]) -> list[Path]:
    belonging = {sweep_folder(sweep_id) for sweep_id in known}
    marked = [mark.parent for mark in sorted(store.folder.glob(f"*/{MARK}"))]
    return [folder for folder in marked if folder.name not in belonging and not folder.is_symlink()]


def prune(store: Store, pruning: Pruning) -> Iterator[OldSweep]:
    """Carry a plan out and yield each sweep that is gone; one that was resumed meanwhile stays.

    Raises `HarnessError` for a folder that cannot be marked (its rows stay) or removed (the next prune tries it again).
    """
    for folder in pruning.leftovers:
        _remove(folder)
    for sweep in pruning.sweeps:
        sweep_id = sweep.record.id
        try:
            store.locks.acquire(sweep_id)
        except UsageError:
            continue
        try:
            folder = _folder(store, sweep_id)
            _mark(folder)
            store.remove_sweep(sweep_id)
            _remove(folder)
        finally:
            store.locks.release(sweep_id)
        yield sweep


def _mark(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        with _explained(folder):
            (folder / MARK).touch()


def _remove(folder: Path) -> None:
    """Remove a marked folder, its mark last, so that it stays marked until all else is gone."""
    with _explained(folder):
        if folder.is_symlink():
            folder.unlink()
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MARK:
                path.unlink()
        shutil.rmtree(folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HarnessError(
            f"The folder {folder} cannot be removed: {error.strerror or error}.",
            "Check its permissions, then prune again.",
        ) from error
