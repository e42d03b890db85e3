"""A note on the phone itself of what harness changed there, written before each change.

It outlives a killed harness, this computer and an unplugged cable: whoever starts next on that phone can give it back.
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
"""In one step at the end: a note is whole or not there."""


@dataclass(frozen=True)
class KnobChange:
    """One knob that was turned, and how it stood before."""

    knob: str
    earlier: Mapping[str, str]


class ChangeNote:
    """The note of one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._file = f"{device.work_folder}/{_NAME}"

    def read(self) -> list[KnobChange]:
        """Return what was changed and not given back, in the order of the changes. Raises `DeviceError`."""
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
        """Write down what is changed now; nothing removes the note. Raises `DeviceError` where it cannot be written."""
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
