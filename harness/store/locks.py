"""The locks of sweeps: who measures one holds it. Read without SQLAlchemy, because loading that takes longer."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UsageError
from harness.store.records import SweepRecord, SweepStatus, sweep_folder

LOCK_FOLDER = ".locks"
"""Inside the results folder; not in the sweep's own folder, which a prune removes."""


class SweepLocks(ABC):
    """The locks that one process holds in one store: one per sweep that is being measured.

    The kernel or the server releases them when the process exits, even on SIGKILL.
    """

    across_hosts: bool
    """True if a sweep that another computer measures is seen to be held."""

    @abstractmethod
    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released. Raises `UsageError` if another process holds it or locking fails."""

    @abstractmethod
    def release(self, sweep_id: str) -> None:
        """Release a sweep if it is held."""

    @abstractmethod
    def release_all(self) -> None:
        """Release all sweeps."""

    @abstractmethod
    def is_free(self, sweep_id: str) -> bool:
        """Return True if nobody holds a sweep, this process included. What cannot be known counts as held."""

    @contextmanager
    def holding(self, sweep_id: str) -> Iterator[None]:
        """Hold a sweep for the length of a `with` block. Raises `UsageError` as `acquire` does."""
        self.acquire(sweep_id)
        try:
            yield
        finally:
            self.release(sweep_id)


def in_use(sweep_id: str) -> UsageError:
    """Return the error for a sweep that another process holds."""
    return UsageError(f"Sweep {sweep_id} is in use by another harness.", "Wait until that has ended, or end it.")


def may_run(locks: SweepLocks, sweep: SweepRecord) -> bool:
    """Return True if a sweep is being measured; of one on another computer only a lock that holds there can tell."""
    if not locks.is_free(sweep.id):
        return True
    if locks.across_hosts:
        return False
    return sweep.status is SweepStatus.RUNNING and sweep.host.get("name") not in (None, platform.node())


class FileSweepLocks(SweepLocks):
    """Locks of files in a results folder."""

    across_hosts = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder / LOCK_FOLDER
        self._held: dict[str, FileLock] = {}

    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released."""
        if sweep_id in self._held:
            return
        # A store is opened by one thread and may be closed by another, and a results folder may have several users.
        lock = FileLock(self._path(sweep_id), timeout=0, thread_local=False, mode=0o666)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise in_use(sweep_id) from None
        except OSError as error:
            raise UsageError(
                f"The lock of sweep {sweep_id} in {self._folder} cannot be taken: {error.strerror}.",
                "Check the folder's permissions, or choose another folder with --results.",
            ) from error
        self._held[sweep_id] = lock

    def release(self, sweep_id: str) -> None:
        """Let a sweep go, if it is held."""
        if lock := self._held.pop(sweep_id, None):
            self._path(sweep_id).unlink(missing_ok=True)  # a waiting process sees that it is gone, and creates another
            lock.release()

    def release_all(self) -> None:
        """Let all go."""
        for sweep_id in list(self._held):
            self.release(sweep_id)

    def is_free(self, sweep_id: str) -> bool:
        """Return True if nobody holds a sweep, this process included; where that cannot be known, it is not free."""
        if sweep_id in self._held:
            return False
        if not self._path(sweep_id).exists():
            return True
        try:
            with self.holding(sweep_id):
                return True
        except UsageError:
            return False

    def _path(self, sweep_id: str) -> Path:
        return self._folder / f"{sweep_folder(sweep_id)}.lock"
