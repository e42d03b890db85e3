"""Keep a note of harness's changes on the phone itself, written before each change.

The note survives a killed harness, a crash of this computer and an unplugged cable: the next start restores the phone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.devices.device import Device
from harness.errors import DeviceError, Failure, FailureClass
from harness.version import __version__

_NAME = "changed.json"
_TIMEOUT_S = 20.0
_WRITE = 'mkdir -p "$1" && printf %s "$3" >"$2.part" && mv "$2.part" "$2" || { rm -f "$2.part"; exit 1; }'
"""Renames at the end, so that a note is complete or absent."""


@dataclass(frozen=True)
class KnobChange:
    """A knob that was set, and its earlier state."""

    knob: str
    earlier: Mapping[str, str]


class ChangeNote:
    """The note of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._file = f"{device.work_folder}/{_NAME}"

    def read(self) -> list[KnobChange]:
        """Return the changes that are not restored yet, oldest first. Raises `DeviceError`."""
        result = self._device.run(["cat", self._file], timeout_s=_TIMEOUT_S)
        if not result.ok:
            return []
        try:
            entries = json.loads(result.stdout)["changes"]
            return [
                KnobChange(str(entry["knob"]), {str(key): str(value) for key, value in entry["earlier"].items()})
                for entry in entries
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeviceError(
                Failure(
                    FailureClass.INTERNAL,
                    f"{self._device.serial}: the note of what harness changed, {self._file}, cannot be read. "
                    "Restart the phone, then remove the note.",
                    f"{type(error).__name__}: {error}",
                )
            ) from error

    def write(self, changes: Sequence[KnobChange]) -> None:
        """Store the current changes; remove the note if there are none. Raises `DeviceError`."""
        if not changes:
            self._device.remove(self._file)
            return
        entries = [{"knob": change.knob, "earlier": dict(change.earlier)} for change in changes]
        text = json.dumps({"harness": __version__, "changes": entries})
        arguments = ["sh", "-c", _WRITE, "sh", self._device.work_folder, self._file, text]
        result = self._device.run(arguments, timeout_s=_TIMEOUT_S)
        if not result.ok:
            raise DeviceError(
                Failure(
                    FailureClass.STORAGE_FULL,
                    f"{self._device.serial}: the note {self._file} cannot be written.",
                    result.stderr.strip(),
                )
            )
