"""Parse Android properties: the output of `getprop`, or a build.prop file."""

from __future__ import annotations

import re

_START = re.compile(r"^\s*\[(?P<key>[^\]]+)\]:\s*\[(?P<value>.*)$")
_ASSIGNMENT = re.compile(r"^\s*(?P<key>[A-Za-z0-9_.-]+)=(?P<value>.*)$")


def parse_properties(text: str) -> dict[str, str]:
    """Return all properties. A value may go over several lines; of a key that comes twice the last wins."""
    properties: dict[str, str] = {}
    open_key: str | None = None
    value: list[str] = []
    for line in text.splitlines():
        start = _START.match(line)
        if start:
            open_key, value = start["key"], [start["value"]]
        elif open_key is not None:
            value.append(line)
        elif assignment := _ASSIGNMENT.match(line):
            properties[assignment["key"]] = assignment["value"].strip()
        if open_key is not None and value[-1].rstrip().endswith("]"):
            properties[open_key] = "\n".join(value).rstrip().removesuffix("]")
            open_key = None
    return properties
