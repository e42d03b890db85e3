"""Numbers in sentences."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum

from harness.errors import UsageError


def pluralize(count: int, noun: str, ending: str = "s") -> str:
    """Return `1 thread` or `4 threads`; `ending` is that of the plural."""
    return f"{count} {noun}" + ("" if count == 1 else ending)


def words(name: object) -> str:
    """Return the name of a verdict or failure class as people read it: `fell back` for `fell_back`."""
    return str(name).replace("_", " ")


def storable(text: str) -> str:
    """Return text as every database can hold it: without NUL and without halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def to_json(value: object) -> str:
    """Write JSON as every database and reader takes it: clean text, and null instead of NaN and infinity."""
    return json.dumps(to_json_value(value), ensure_ascii=False, allow_nan=False)


def to_json_value(value: object) -> object:
    """Return a value as JSON types: enumerations as their value, tuples and sets as lists, NaN as None, else text."""
    if isinstance(value, Enum):
        return to_json_value(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): to_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [to_json_value(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    return value if isinstance(value, bool | int | None) else storable(str(value))


def printable(text: object) -> str:
    """Return a name or sentence from outside on one line, with nothing in it that moves the cursor or turns text."""
    return "".join(
        sign if sign.isprintable() else " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}" for sign in str(text)
    )


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and no exponent; `-` where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else -_zeros_after_point(abs(value))
    return f"{value:.{max(0, digits - magnitude)}f}"


def _zeros_after_point(value: float) -> int:
    return len(f"{value:.12f}".split(".")[1]) - len(f"{value:.12f}".split(".")[1].lstrip("0"))


def utc_text(moment: datetime) -> str:
    """Write a moment as `2026-11-24T08:30:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_SHOWN = 16
"""Signs of a hash or a fingerprint that are shown; enough to tell two apart."""


def contrast(name: str, a: object, b: object) -> str:
    """Return a few words about two values that differ; of two mappings, about what differs in them."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
        return f"{name}: " + ", ".join(f"{key} {_shown(a.get(key))} against {_shown(b.get(key))}" for key in keys)
    return f"{name}: {_shown(a)} against {_shown(b)}"


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    text = str(value)
    is_hash = len(text) == 64 and text.isalnum()  # noqa: PLR2004 - hexadecimal digits of SHA-256
    return f"{text[:_SHOWN]}..." if is_hash else text


def alternatives(names: Sequence[str]) -> str:
    """Return `a`, `a or b`, or `a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def require_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `UsageError` if `value` is not one of the allowed values of an option."""
    if value not in allowed:
        raise UsageError(f"Invalid value {value!r} for {option}.", f"Choose {alternatives(allowed)}.")
