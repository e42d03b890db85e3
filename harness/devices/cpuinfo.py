"""Parse `/proc/cpuinfo` and the kernel's lists of cores."""

from __future__ import annotations

import re
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


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse the file of any architecture; what is not there stays empty or None."""
    processors: list[int] = []
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := _PROCESSOR.match(line.strip()):
            processors.append(int(match[1]))
        elif match := _FIELD.match(line.strip()):
            fields.setdefault(match["key"], []).append(match["value"])
    return CpuInfo(
        processors=tuple(processors),
        hardware=fields["Hardware"][-1] if "Hardware" in fields else None,
        model_name=fields["model name"][0] if "model name" in fields else None,
        implementers=tuple(sorted(set(fields.get("CPU implementer", [])))),
        parts=tuple(sorted(set(fields.get("CPU part", [])))),
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
