"""The tool and the variants on one device, hashed there again after they were used (promise H24)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.devices.device import Device
from harness.errors import DeviceError, Failure
from harness.files import sha256_of
from harness.store.rows import FileCheck, tampered
from harness.sweep.context import SweepContext


class PushedFiles:
    """What one device measures with. What is stored between two looks counts once the second finds the same."""

    def __init__(self, context: SweepContext, device: Device) -> None:
        self._context = context
        self._device = device
        self._files: dict[tuple[str, str], str] = {}
        """SHA-256 by path on the device and owner."""

    def check_earlier(self) -> None:
        """Look at what an earlier session measured with, before anything is pushed over it. Raises `DeviceError`."""
        marked, failure = self._look(self._stored())
        if failure and marked:
            self._context.observer.warn(f"{self._device.serial}: {failure.message} Measuring that again.")

    def add(self, owner_sha256: str, files: Mapping[str, Path]) -> None:
        """Add what was pushed for a tool or variant: each path there with its source.

        Raises `DeviceError`, also if this sweep measured with another file before.
        """
        before = self._stored()
        new = {path: source for path, source in files.items() if (path, owner_sha256) not in self._files}
        hashes = {path: sha256_of(source) for path, source in new.items() if source.is_file()}
        hashes |= {path: found for path, found in self._device.sha256s([*(new.keys() - hashes)]).items() if found}
        checks = [
            FileCheck(
                path=path,
                owner_sha256=owner_sha256,
                sha256=before.get((path, owner_sha256), sha256),
                found_sha256=sha256,
            )
            for path, sha256 in hashes.items()
        ]
        if changed := next((check for check in checks if not check.passed), None):
            raise DeviceError(tampered(changed))
        self._context.store.add_file_checks(self._context.sweep_id, self._device.serial, checks)
        self._files |= {(path, owner_sha256): sha256 for path, sha256 in hashes.items()}

    def check(self) -> Failure | None:
        """Look at all files again; return why what was measured does not count. Raises `DeviceError`."""
        return self._look(self._files)[1]

    def _stored(self) -> dict[tuple[str, str], str]:
        rows = self._context.store.file_checks(self._context.sweep_id)
        return {(row.path, row.owner_sha256): row.sha256 for row in rows if row.serial == self._device.serial}

    def _look(self, files: Mapping[tuple[str, str], str]) -> tuple[int, Failure | None]:
        """Store what the device reads; return how many rows do not count because of that, and why."""
        found = self._device.sha256s([path for path, _ in files]) if files else {}
        checks = [
            FileCheck(path=path, owner_sha256=owner, sha256=sha256, found_sha256=found[path])
            for (path, owner), sha256 in files.items()
        ]
        marked = self._context.store.add_file_checks(self._context.sweep_id, self._device.serial, checks)
        return marked, next((tampered(check) for check in checks if not check.passed), None)
