"""Which sweeps are being measured right now: one lock a sweep, which ends with its process, however that ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UsageError
from harness.results.logs import sweep_folder

FOLDER = ".locks"
"""Inside the results folder; not in the sweep's own folder, which a prune removes."""


class SweepLocks:
    """The locks that one process holds in one results folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._held: dict[str, FileLock] = {}

    def acquire(self, sweep_id: str) -> None:
        """Hold a sweep until it is released. Raises `UsageError` where another process holds it, or it cannot be."""
        if sweep_id in self._held:
            return
        # A store is opened by one thread and may be closed by another, and a results folder may have several users.
        lock = FileLock(self._path(sweep_id), timeout=0, thread_local=False, mode=0o666)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UsageError(
                f"Sweep {sweep_id} is in use by another harness.", "Wait until that has ended, or end it."
            ) from None
        except OSError as error:
            raise UsageError(
                f"The lock of sweep {sweep_id} in {self._folder} cannot be taken: {error.strerror}.",
                "Check the folder's permissions, or choose another folder with --results.",
            ) from error
        self._held[sweep_id] = lock

    def release(self, sweep_id: str) -> None:
        """Let a sweep go, if it is held."""
        if lock := self._held.pop(sweep_id, None):
            self._path(sweep_id).unlink(missing_ok=True)  # whoever waits for it sees that it is gone, and makes another
            lock.release()

    def release_all(self) -> None:
        """Let all go."""
        for sweep_id in list(self._held):
            self.release(sweep_id)

    @contextmanager
    def holding(self, sweep_id: str) -> Iterator[None]:
        """Hold a sweep for the length of a `with` block. Raises `UsageError` as `acquire` does."""
        self.acquire(sweep_id)
        try:
            yield
        finally:
            self.release(sweep_id)

    def is_free(self, sweep_id: str) -> bool:
        """Tell whether nobody holds a sweep, this process included; where that cannot be known, it is not free."""
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
