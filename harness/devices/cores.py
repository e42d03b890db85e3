"""Choose the cores to measure on: a set of equal ones, by maximum frequency (promise H5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.devices.device import Core, Device, DeviceKind

CoreChoice = Literal["big", "little", "all"]

_LITTLE_PARTS = frozenset({0xC05, 0xC07, 0xD03, 0xD04, 0xD05, 0xD46, 0xD80})
"""ARM's in-order cores: Cortex-A5, A7, A53, A35, A55, A510 and A520."""
_ALLOWED_SCRIPT = "grep Cpus_allowed_list /proc/self/status"
_ALLOWED_LIST = re.compile(r"^Cpus_allowed_list:\s*(\S+)", re.MULTILINE)
_TIMEOUT_S = 20.0
_NO_SUCH_PROGRAM = 127


def choose_cores(cores: Sequence[Core], choice: CoreChoice | Sequence[int] = "big") -> tuple[int, ...]:
    """Return core numbers: the largest group of fast cores, the slowest group, all, or those named.

    Equal cores have one maximum frequency and, if the kernel reports it for all, one part number: a Helio P60
    runs four Cortex-A73 and four Cortex-A53 at 2 GHz. A prime core that stands alone is no group to run several
    threads on, so `big` takes the fastest frequency that at least two cores share, and the fastest core alone only
    where all differ. A core of unknown frequency is switched off at the moment, unless the kernel reports no frequency
    at all.
    """
    if not isinstance(choice, str):
        return tuple(choice)
    if choice == "all":
        return tuple(core.index for core in cores)
    known = [core for core in cores if core.max_frequency_khz] or cores
    unclear = {core.max_frequency_khz for core in known if core.part is None}
    groups: dict[tuple[int, bool, int], list[int]] = {}
    for core in known:
        part = 0 if core.part is None or core.max_frequency_khz in unclear else core.part
        groups.setdefault((core.max_frequency_khz or 0, part not in _LITTLE_PARTS, part), []).append(core.index)
    by_speed = sorted(groups, reverse=choice == "big")
    shared = [speed for speed in by_speed if len(groups[speed]) > 1]
    return tuple(groups[(shared or by_speed)[0]]) if groups else ()


def as_mask(cores: Sequence[int]) -> str:
    """Return the hexadecimal mask that `taskset` takes."""
    return f"{sum(1 << core for core in set(cores)):x}"


def mask_cores(mask: str) -> tuple[int, ...]:
    """Return the core numbers of a hexadecimal mask; the kernel puts commas into long ones."""
    bits = int(mask.replace(",", ""), 16)
    return tuple(core for core in range(bits.bit_length()) if bits >> core & 1)


@dataclass(frozen=True)
class MeasuredCores:
    """The cores that a device is measured on."""

    cores: tuple[int, ...]
    mask: str | None
    """Hexadecimal; None if the device cannot be pinned."""
    reason: str = ""
    """Why it is not pinned, as a sentence."""

    def refuses(self, threads: int) -> str:
        """Return why this number of threads cannot be measured; "" if it can."""
        if not self.cores or threads <= len(self.cores):
            return ""
        where = f"mask {self.mask}" if self.mask else "device"
        return f"{threads} threads need as many equal cores, and the {where} has {len(self.cores)}."


def choose_measured_cores(device: Device, choice: CoreChoice | Sequence[int]) -> MeasuredCores:
    """Choose among the cores that a device's shell may use, and try the mask there. Raises `DeviceError`.

    A virtual phone shows the cores of its recording but runs on this computer's; a container may use fewer than it
    sees.
    The host is left unpinned: it is where the rest of harness runs too.
    """
    facts = device.facts()
    if facts.kind is DeviceKind.HOST:
        return MeasuredCores(tuple(core.index for core in facts.cores), None, "The host is not pinned.")
    allowed_list = _ALLOWED_LIST.search(device.run_script(_ALLOWED_SCRIPT, timeout_s=_TIMEOUT_S).stdout)
    allowed = set(parse_core_list(allowed_list[1])) if allowed_list else {core.index for core in facts.cores}
    real = [core for core in facts.cores if core.index in allowed]
    chosen = tuple(core for core in choose_cores(real, choice) if core in {core.index for core in real})
    every = tuple(core.index for core in real)
    if not chosen:
        return MeasuredCores(every, None, f"{facts.title} has none of the cores that its profile asks for ({choice}).")
    mask = as_mask(chosen)
    tried = device.run(["taskset", mask, "true"], timeout_s=_TIMEOUT_S)
    if tried.exit_code == _NO_SUCH_PROGRAM:
        return MeasuredCores(every, None, f"{facts.title} has no taskset, so nothing can be pinned to its cores.")
    if not tried.ok:
        return MeasuredCores(every, None, f"{facts.title} refused the core mask {mask}: {tried.stderr.strip()[-200:]}")
    return MeasuredCores(chosen, mask)


_PROCESSOR = re.compile(r"^processor\s*:\s*(\d+)\s*$")
_FIELD = re.compile(r"^(?P<key>[^:]+?)\s*:\s*(?P<value>.*?)\s*$")
_RANGE = re.compile(r"^(\d+)(?:-(\d+))?$")
_MOST_CORES = 1024


@dataclass(frozen=True)
class CpuInfo:
    """The contents of `/proc/cpuinfo`, which omits cores that are switched off at the moment."""

    processors: tuple[int, ...]
    hardware: str | None
    """The board or SoC, on older ARM phones."""
    model_name: str | None
    """The processor's name, on x86."""
    implementers: tuple[str, ...]
    """ARM's numbers of the makers of the cores, such as `0x41`, each once."""
    parts: tuple[str, ...]
    """ARM's part numbers of the cores, such as `0xd05`, each once."""
    part_of: Mapping[int, int]
    """The part number of each core that the file describes on its own; old kernels describe all cores at once."""


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse the file of any architecture; missing fields stay empty or None."""
    processors: list[int] = []
    part_of: dict[int, int] = {}
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := _PROCESSOR.match(line.strip()):
            processors.append(int(match[1]))
        elif match := _FIELD.match(line.strip()):
            fields.setdefault(match["key"], []).append(match["value"])
            if match["key"] == "CPU part" and processors and re.fullmatch("0x[0-9a-f]{1,4}", match["value"]):
                part_of[processors[-1]] = int(match["value"], 16)
    return CpuInfo(
        processors=tuple(processors),
        hardware=fields["Hardware"][-1] if "Hardware" in fields else None,
        model_name=fields["model name"][0] if "model name" in fields else None,
        implementers=tuple(sorted(set(fields.get("CPU implementer", [])))),
        parts=tuple(sorted(set(fields.get("CPU part", [])))),
        part_of=part_of if len(part_of) == len(processors) else {},
    )


def parse_core_list(text: str) -> tuple[int, ...]:
    """Parse a kernel list such as `0-3,6`; return no cores for invalid text."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        match = _RANGE.match(part.strip())
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            cores.update(range(first, min(last, _MOST_CORES) + 1))
    return tuple(sorted(cores))
