"""The interface of a knob, which sets one thing on a phone. `preparation` records changes and restores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from harness.devices.device import CommandResult, Device
from harness.errors import HarnessError

State = Mapping[str, str]
"""A knob's setting, in the phone's own words; written to a note on the phone, so plain text only."""

TIMEOUT_S = 20.0
NO_SUCH_PROGRAM = 127


class KnobRefusedError(HarnessError):
    """The phone answered, but refused the change."""


class Knob(ABC):
    """One setting of a phone. All methods raise `DeviceError` if the phone does not answer."""

    name: ClassVar[str]
    readable: ClassVar[bool] = True
    """True if the phone reports the knob's state. If not, `read` returns the state of a phone after a reboot."""

    @property
    def label(self) -> str:
        """The label of results under this setting."""
        return self.name

    @abstractmethod
    def unavailable_because(self, device: Device) -> str:
        """Return why this phone does not offer the knob, as a sentence; "" if it does."""

    @abstractmethod
    def read(self, device: Device) -> State:
        """Read the knob's state from the phone. Raises `KnobRefusedError` for an invalid answer."""

    @abstractmethod
    def wanted(self, device: Device) -> State:
        """Return the state for measuring."""

    @abstractmethod
    def write(self, device: Device, state: State) -> None:
        """Set the knob. Raises `KnobRefusedError` if the phone refuses."""

    def set(self, device: Device) -> None:
        """Set the knob to the state for measuring."""
        self.write(device, self.wanted(device))

    def restore(self, device: Device, earlier: State) -> None:
        """Set the knob back to the state that `read` returned."""
        self.write(device, earlier)


def require_ok(result: CommandResult, what: str) -> None:
    """Raise `KnobRefusedError` with the phone's own words if a command failed."""
    if not result.ok:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise KnobRefusedError(f"{what}: {said[-1] if said else f'exit code {result.exit_code}'}")
