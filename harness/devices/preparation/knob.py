"""What every knob can do. A knob turns one thing; what was changed and must be given back is kept elsewhere."""

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
    """The phone answered, but did not do what was asked."""


class Knob(ABC):
    """One thing that can be turned. All methods raise `DeviceError` when the phone does not answer."""

    name: ClassVar[str]
    readable: ClassVar[bool] = True
    """Whether the phone can be asked how the knob stands. Where not, `read` gives what a phone starts with."""

    @property
    def label(self) -> str:
        """What tells results under this setting from others."""
        return self.name

    @abstractmethod
    def unavailable_because(self, device: Device) -> str:
        """Return why this phone does not offer the knob, as a sentence; empty where it does."""

    @abstractmethod
    def read(self, device: Device) -> State:
        """Ask the phone how the knob stands. Raises `KnobRefusedError` for no sensible answer."""

    @abstractmethod
    def wanted(self, device: Device) -> State:
        """Return how the knob is to stand while measuring."""

    @abstractmethod
    def write(self, device: Device, state: State) -> None:
        """Turn the knob. Raises `KnobRefusedError` when the phone says no."""

    def set(self, device: Device) -> None:
        """Turn the knob to where it is to stand while measuring."""
        self.write(device, self.wanted(device))

    def restore(self, device: Device, earlier: State) -> None:
        """Turn the knob back to what `read` gave."""
        self.write(device, earlier)


def require_ok(result: CommandResult, what: str) -> None:
    """Raise `KnobRefusedError` with the phone's own words when a command did not succeed."""
    if not result.ok:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise KnobRefusedError(f"{what}: {said[-1] if said else f'exit code {result.exit_code}'}")
