"""The kernel's files of each core's clock, read and written many at a time. Writing needs a shell that is root."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from harness.devices.device import Device
from harness.devices.preparation.knob import TIMEOUT_S, Knob, KnobRefusedError, State, require_ok

_FOLDER = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"
_LINE = re.compile(r"^(/sys/devices/system/cpu/cpu\d+/cpufreq/\w+):(.*?)\s*$", re.MULTILINE)
_WRITABLE = re.compile(r"/sys/devices/system/cpu/cpu\d+/cpufreq/scaling_(?:governor|min_freq|max_freq)")
_VALUE = re.compile(r"\w{1,40}")
_WRITE = """
while [ $# -gt 1 ]; do
  echo "$2" >"$1" || exit 1
  shift 2
done
"""


def read_clock_files(device: Device, name: str) -> dict[str, str]:
    """Return the contents of one file of each core's clock by path; `name` is a constant of harness's own."""
    output = device.run_script(f"grep . {_FOLDER}/{name} /dev/null", timeout_s=TIMEOUT_S).stdout
    return {path: value for path, value in _LINE.findall(output) if path.endswith(f"/{name}")}


def write_clock_files(device: Device, values: Iterable[tuple[str, str]]) -> None:
    """Write files one after another. Raises `KnobRefusedError` for the first that the kernel refuses.

    Paths and values may come from a note that lies on the phone, so anything but a clock's own files is refused.
    """
    pairs = list(values)
    for path, value in pairs:
        if not _WRITABLE.fullmatch(path) or not _VALUE.fullmatch(value):
            raise KnobRefusedError(f"{path} = {value} is no setting of a core's clock.")
    arguments = [part for pair in pairs for part in pair]
    result = device.run(["sh", "-c", _WRITE, "sh", *arguments], timeout_s=TIMEOUT_S)
    require_ok(result, "The kernel refused a core's clock")


def not_root_because(device: Device) -> str:
    """Return why the clocks cannot be written, as a sentence; empty if the shell is root."""
    user = device.run(["id", "-u"], timeout_s=TIMEOUT_S).stdout.strip()
    return "" if user == "0" else "It needs root, which this phone's shell is not (`adb root` on a userdebug build)."


def in_every(values: Mapping[str, str], word: str) -> bool:
    """Return True if each of some files lists a word."""
    return bool(values) and all(word in text.split() for text in values.values())


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
