"""Run a tool on the cores of a mask, and judge what the kernel says of the cores that it may use (promise H5)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.devices.cores import mask_cores
from harness.errors import Failure, FailureClass

_TELL_AND_BECOME = """
while read -r key value; do
  case $key in Cpus_allowed:) echo "harness-cores-allowed: $value" >&2 ;; esac
done </proc/$$/status
exec "$@"
"""
"""Runs behind taskset and becomes the tool: what this process may use is what the tool's threads inherit."""
_TOLD = re.compile(r"^harness-cores-allowed: ([0-9a-f,]+)\s*$", re.MULTILINE)


def pinned(arguments: Sequence[str], mask: str) -> list[str]:
    """Return the argument list that runs `arguments` on the cores of a hexadecimal mask."""
    return ["taskset", mask, "sh", "-c", _TELL_AND_BECOME, "sh", *arguments]


def cores_allowed(output: str) -> str | None:
    """Return the mask that the kernel reported right after the start; None if it reported none."""
    told = _TOLD.search(output)
    return told[1].replace(",", "").lstrip("0") or "0" if told else None


def mask_failure(mask: str, allowed: str | None) -> Failure | None:
    """Compare the reported cores with the requested ones: other cores measure another thing."""
    if allowed is not None and mask_cores(allowed) == mask_cores(mask):
        return None
    reported = f"allowed {allowed}" if allowed else "reported nothing"
    return Failure(
        FailureClass.CORES_UNAVAILABLE,
        f"The tool was to run on the cores of mask {mask}; the phone's kernel {reported}.",
        f"Cpus_allowed: {allowed or 'unknown'}",
    )
