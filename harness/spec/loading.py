"""Read a TOML file into a pydantic model, with errors that a person can act on."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UsageError
from harness.text import storable


class SpecModel(BaseModel):
    """Base of everything that a person writes: no unknown keys, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SpecType = TypeVar("SpecType", bound=SpecModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises `UsageError` that names the file and, for a syntax error, the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file.", "Check the path.") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not a TOML file.", "Name a file inside it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text ({error}).", "Check the file.") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}.", "Fix the line that the message names.") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not valid TOML: tables or lists are nested too deep.", "Nest them less.") from error
    except ValueError as error:  # such as a number of thousands of digits
        raise UsageError(f"{path}: not valid TOML: {error}.", "Fix the value that the message names.") from error


def load_spec(path: Path, spec_type: type[SpecType]) -> SpecType:
    """Read and validate a TOML file. Raises `UsageError` naming file, key, what was found and what is allowed."""
    return validate_spec(read_toml(path), spec_type, origin=str(path))


def validate_spec(values: dict[str, Any], spec_type: type[SpecType], *, origin: str) -> SpecType:
    """Validate plain values; `origin` (a file name or an option) starts every error sentence."""
    if unfit := next((text for text in _texts(values) if storable(text) != text), None):
        raise UsageError(
            f"{storable(origin)}: cannot use the text {storable(unfit)!r}: it is not valid UTF-8.",
            "Rename the file, or fix the text.",
        )
    try:
        return spec_type.model_validate(values)
    except ValidationError as error:
        raise UsageError(_describe(error, spec_type, origin), "Fix the spec and run the command again.") from error


def _texts(value: object) -> Iterator[str]:
    """Yield every text in plain values."""
    if isinstance(value, str | PurePath):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _describe(error: ValidationError, spec_type: type[SpecModel], origin: str) -> str:
    return "\n".join(f"{origin}: {_one_problem(dict(problem), spec_type)}" for problem in error.errors())


def _one_problem(problem: dict[str, Any], spec_type: type[SpecModel]) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location) or "the file"
    if problem["type"] == "extra_forbidden":
        allowed = _keys_beside(spec_type, location)
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"unknown key {key!r}.{hint} Allowed here: {', '.join(allowed)}."
    if problem["type"] == "missing":
        return f"key {key!r} is missing."
    found = repr(problem["input"])
    shown = found if len(found) <= 80 else found[:77] + "..."  # noqa: PLR2004
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"key {key!r}: found {shown}; {reason[:1].lower()}{reason[1:]}."


def _keys_beside(spec_type: type[SpecModel], location: tuple[Any, ...]) -> list[str]:
    """Return the keys that are allowed in the table that holds `location`."""
    schema = spec_type.model_json_schema()
    node: dict[str, Any] = schema
    for part in location[:-1]:
        node = _step(schema, node, part)
    return sorted(_resolve(schema, node).get("properties", {}))


def _step(schema: dict[str, Any], node: dict[str, Any], part: str | int) -> dict[str, Any]:
    node = _resolve(schema, node)
    if isinstance(part, int):
        return dict(node.get("items", {}))
    if "discriminator" in node:  # pydantic puts the tag of a union into the location
        return {"$ref": node["discriminator"]["mapping"][part]}
    properties = node.get("properties", {})
    return dict(properties.get(part) or node.get("additionalProperties") or {})


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:
            node = next((option for option in node["anyOf"] if "$ref" in option or "properties" in option), {})
        else:
            return node
