"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, ending: str = "s") -> str:
    """Return `1 thread` or `4 threads`; `ending` is that of the plural."""
    return f"{count} {noun}" + ("" if count == 1 else ending)
