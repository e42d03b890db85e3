"""The clock of each core, held at one frequency."""

from __future__ import annotations

from typing import ClassVar

from harness.devices.device import Device
from harness.devices.preparation.clocks import not_root_because, read_clock_files, write_clock_files
from harness.devices.preparation.knob import Knob, State

_LOWEST, _HIGHEST = "scaling_min_freq", "scaling_max_freq"


class CpuClocks(Knob):
    """Lowest and highest allowed frequency of each core, both set to one share of what the core can do.

    androidx locks clocks at half of it, where even a small phone does not throttle; 1.0 is nearer to what users get.
    """

    name: ClassVar[str] = "cpu-clocks"

    def __init__(self, share: float = 1.0) -> None:
        self._share = share

    @property
    def label(self) -> str:
        """Tell results at different shares apart."""
        return f"{self.name} {self._share:g}"

    def unavailable_because(self, device: Device) -> str:
        """Tell a shell that is not root, and kernels whose clocks cannot be set."""
        return not_root_because(device) or ("" if self.read(device) else "The kernel shows no clocks to lock.")

    def read(self, device: Device) -> State:
        """Return the lowest and highest allowed frequency of each core, in kHz."""
        return {**read_clock_files(device, _LOWEST), **read_clock_files(device, _HIGHEST)}

    def wanted(self, device: Device) -> State:
        """Return one frequency for each core: the highest that the kernel lists within the share."""
        fastest = read_clock_files(device, "cpuinfo_max_freq")
        listed = read_clock_files(device, "scaling_available_frequencies")
        state: dict[str, str] = {}
        for path, khz in fastest.items():
            if not khz.isdecimal():
                continue
            folder = path.rpartition("/")[0]
            locked = _within(int(khz) * self._share, listed.get(f"{folder}/scaling_available_frequencies", ""))
            state |= {f"{folder}/{_LOWEST}": str(locked), f"{folder}/{_HIGHEST}": str(locked)}
        return {path: state[path] for path in self.read(device) if path in state}

    def write(self, device: Device, state: State) -> None:
        """Write the frequencies in an order that never asks for a lowest above the highest, which kernels refuse."""
        slowest = read_clock_files(device, "cpuinfo_min_freq")
        open_wide = [
            (path.replace("cpuinfo_min_freq", _LOWEST), khz)
            for path, khz in slowest.items()
            if path.replace("cpuinfo_min_freq", _LOWEST) in state
        ]
        highest = [(path, khz) for path, khz in state.items() if path.endswith(_HIGHEST)]
        lowest = [(path, khz) for path, khz in state.items() if path.endswith(_LOWEST)]
        write_clock_files(device, [*open_wide, *highest, *lowest])


def _within(limit_khz: float, listed: str) -> int:
    """Return the highest listed frequency up to a limit, else the limit itself: the kernel takes the nearest."""
    return max(
        (int(khz) for khz in listed.split() if khz.isdecimal() and int(khz) <= limit_khz), default=int(limit_khz)
    )
