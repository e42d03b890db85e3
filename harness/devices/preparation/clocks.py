"""The kernel's files of each core's clock, read and written many at a time. Writing needs a shell that is root."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from harness.devices.device import Device
from harness.devices.preparation.knob import TIMEOUT_S, KnobRefusedError, require_ok

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
    """Write files one after the other. Raises `KnobRefusedError` for the first that the kernel refuses.

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
    """Return why the clocks cannot be written, as a sentence; empty where the shell is root."""
    user = device.run(["id", "-u"], timeout_s=TIMEOUT_S).stdout.strip()
    return "" if user == "0" else "It needs root, which this phone's shell is not (`adb root` on a userdebug build)."


def in_every(values: Mapping[str, str], word: str) -> bool:
    """Tell whether each of some files lists a word."""
    return bool(values) and all(word in text.split() for text in values.values())
