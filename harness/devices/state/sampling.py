"""Sample a phone's clocks while the tool runs, from a second shell that ends with the tool.

The shell reads a few kernel files, asks none of Android's services, and is not pinned to the tool's cores.
`benchmarks/telemetry.py` measures its cost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.devices.android_output import section_script, split_sections
from harness.devices.device import Device
from harness.devices.state.telemetry import TELEMETRY_SCRIPT, Telemetry, parse_telemetry

INTERVAL_S = 0.3
_FILE = "samples"
_TIMEOUT_S = 20.0
_SAMPLER = f"""
main=$1
shift
while sleep {INTERVAL_S} || sleep 1; do
  read -r process </proc/$main/stat || exit
  case $process in *") Z "*) exit ;; esac
  echo sample
  grep -E "^[0-9]+\\$|^Cpus_allowed:" "$@" /proc/$main/status
done
"""
"""Ends with the process that it watches. Old Androids sleep whole seconds only."""
_SCRIPT = f"""
file=$1
shift
clocks=
while [ "$1" != -- ]; do
  clocks="$clocks $1"
  shift
done
shift
sh -c '{_SAMPLER}' sh $$ $clocks >"$file" 2>/dev/null </dev/null &
exec "$@"
"""
"""The process keeps its number while it becomes the tool. A shell of its own samples, since a subshell would hold the
connection open."""
_SAMPLE = re.compile(r"^sample\r?$", re.MULTILINE)
_CLOCK = re.compile(r"^/sys/devices/system/cpu/cpu(\d+)/cpufreq/scaling_(cur|max)_freq:(\d+)$", re.MULTILINE)
_TAKE = section_script({"samples": 'cat "$1" 2>/dev/null; rm -f "$1"'})
_ALLOWED = re.compile(r"Cpus_allowed:\s*([0-9a-f,]+)$", re.MULTILINE)


@dataclass(frozen=True)
class ClockSamples:
    """The samples of one run of the tool; empty if the phone reports no clocks."""

    count: int = 0
    peak_frequencies_khz: dict[int, int] = field(default_factory=dict)
    """The highest frequency at which each core was seen."""
    lowest_ceilings_khz: dict[int, int] = field(default_factory=dict)
    """The lowest limit that the kernel set to each core."""
    cores_allowed: tuple[str, ...] = ()
    """Every core mask, hexadecimal, of the tool's process."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def sampled(device: Device, arguments: Sequence[str], cores: Collection[int]) -> list[str]:
    """Return the argument list that runs `arguments` with a shell next to it which samples some cores."""
    clocks = [
        f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_{name}_freq" for core in cores for name in ("cur", "max")
    ]
    return ["sh", "-c", _SCRIPT, "sh", f"{device.work_folder}/{_FILE}", *clocks, "--", *arguments]


def take_samples(device: Device) -> tuple[ClockSamples, Telemetry]:
    """Fetch the samples since the last call, remove them, and read the telemetry, all in one round trip.

    Raises `DeviceError`.
    """
    script = f"{_TAKE}; echo; {TELEMETRY_SCRIPT}"
    file = f"{device.work_folder}/{_FILE}"
    output = device.run(["sh", "-c", script, "sh", file], timeout_s=_TIMEOUT_S).stdout
    return parse_samples(split_sections(output).get("samples", "")), parse_telemetry(output)


def parse_samples(text: str) -> ClockSamples:
    """Parse the output of the sampling shell."""
    peaks: dict[int, int] = {}
    ceilings: dict[int, int] = {}
    for core, name, khz in _CLOCK.findall(text):
        index, value = int(core), int(khz)
        if name == "cur":
            peaks[index] = max(value, peaks.get(index, value))
        else:
            ceilings[index] = min(value, ceilings.get(index, value))
    allowed = dict.fromkeys(mask.replace(",", "").lstrip("0") or "0" for mask in _ALLOWED.findall(text))
    return ClockSamples(len(_SAMPLE.findall(text)), peaks, ceilings, tuple(allowed))
