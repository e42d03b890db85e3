"""Small pieces that the generated pages are made of: Markdown, and what stands in the code."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from harness.spec.loading import SpecModel


def page(title: str, *parts: str) -> str:
    """Return a page of a title and parts."""
    return "\n\n".join([f"# {title}", *(part for part in parts if part)]) + "\n"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; what stands in a cell may hold bars and line ends."""
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """Return inline code; of nothing, nothing."""
    return f"`{text}`" if str(text) else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def spec_class(name: str) -> type[SpecModel]:
    """Return the class behind a name of a JSON schema's `$defs`."""
    return next(one for one in _all_below(SpecModel) if one.__name__ == name)


def _all_below(kind: type[SpecModel]) -> Iterator[type[SpecModel]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _all_below(inner)


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstrings that stand under a class's attributes, those of its bases included."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if owner.__module__.startswith("harness"):
            found |= _docs_in_source(owner)
    return found


def _docs_in_source(cls: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101
    return {
        name: inspect.cleandoc(text.value.value)
        for attribute, text in pairwise(definition.body)
        if (name := _assigned_name(attribute))
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _assigned_name(statement: ast.stmt) -> str | None:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def allowed(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a key may be, from its JSON schema; tables of their own are links."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[1]
        return f"table [{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(allowed(option) for option in schema[union] if option.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(code(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _list(schema)
    if schema.get("format") == "path":
        return "a path"
    return f"{_KINDS.get(schema.get('type', ''), 'anything')}{_limits(schema)}"


_KINDS = {
    "boolean": "true or false",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "object": "a table",
}


def _list(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"a list of {len(schema['prefixItems'])}, each {allowed(schema['prefixItems'][0])}"
    return f"a list, each {allowed(schema.get('items', {}))}"


def _limits(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "over",
        "maximum": "at most",
        "exclusiveMaximum": "below",
        "pattern": "matching",
    }
    found = [f"{word} {code(schema[key])}" for key, word in words.items() if key in schema]
    return f", {' and '.join(found)}" if found else ""
