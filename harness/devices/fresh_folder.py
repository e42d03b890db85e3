"""A folder on a device that is empty at the start and gone at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.devices.device import Device
from harness.errors import DeviceError, Failure, FailureClass

_TIMEOUT_S = 20.0


@contextmanager
def fresh_folder(device: Device, folder: str) -> Iterator[None]:
    """Make a folder inside the device's work folder, anew where it is there. Raises `DeviceError`."""
    device.remove(folder)
    made = device.run(["mkdir", "-p", folder], timeout_s=_TIMEOUT_S)
    if not made.ok:
        raise DeviceError(
            Failure(
                FailureClass.STORAGE_FULL, f"The folder {folder} could not be made on {device.serial}.", made.stderr
            )
        )
    try:
        yield
    finally:
        with suppress(DeviceError):  # a lost phone is found out by the next process; the folder is removed before use
            device.remove(folder)
