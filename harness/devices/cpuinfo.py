"""Parse `/proc/cpuinfo` and the kernel's lists of cores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PROCESSOR = re.compile(r"^processor\s*:\s*(\d+)\s*$")
_FIELD = re.compile(r"^(?P<key>[^:]+?)\s*:\s*(?P<value>.*?)\s*$")
_RANGE = re.compile(r"^(\d+)(?:-(\d+))?$")
_MOST_CORES = 1024


@dataclass(frozen=True)
class CpuInfo:
    """What `/proc/cpuinfo` lists. It leaves out cores that are switched off at the moment."""

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
    """Parse the file of any architecture; what is not there stays empty or None."""
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
    """Parse a kernel list such as `0-3,6`; nothing sensible gives no cores."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        match = _RANGE.match(part.strip())
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
            cores.update(range(first, min(last, _MOST_CORES) + 1))
    return tuple(sorted(cores))
