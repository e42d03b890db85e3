"""Values from anywhere as JSON that every database and reader takes."""

from __future__ import annotations

import json
import math
from enum import Enum


def storable(text: str) -> str:
    """Return text as every database can hold it: without NUL and without halves of surrogate pairs."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def to_json(value: object) -> str:
    """Write JSON as every database and reader takes it: clean text, and null instead of NaN and infinity."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: object) -> object:
    """Return a value as JSON types: enumerations as their value, tuples and sets as lists, NaN as None, else text."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    return value if isinstance(value, bool | int | None) else storable(str(value))
