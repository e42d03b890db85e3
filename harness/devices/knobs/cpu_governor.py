"""The kernel's rule for choosing each core's clock."""

from __future__ import annotations

from typing import ClassVar

from harness.devices.device import Device
from harness.devices.preparation.clocks import in_every, not_root_because, read_clock_files, write_clock_files
from harness.devices.preparation.knob import Knob, State

_GOVERNOR = "performance"


class CpuGovernor(Knob):
    """Governor `performance` on all cores: each runs at the highest clock that it is allowed, also when idle."""

    name: ClassVar[str] = "cpu-governor"

    def unavailable_because(self, device: Device) -> str:
        """Tell a shell that is not root, and kernels without the governor."""
        if reason := not_root_because(device):
            return reason
        offered = read_clock_files(device, "scaling_available_governors")
        return "" if in_every(offered, _GOVERNOR) else f"The kernel offers no governor {_GOVERNOR} on all cores."

    def read(self, device: Device) -> State:
        """Return the governor of each core."""
        return read_clock_files(device, "scaling_governor")

    def wanted(self, device: Device) -> State:
        """Return `performance` for each core."""
        return dict.fromkeys(self.read(device), _GOVERNOR)

    def write(self, device: Device, state: State) -> None:
        """Write the governors."""
        write_clock_files(device, state.items())
