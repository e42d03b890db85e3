"""Pages about the files that a person writes, from the pydantic models that read them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown_parts import allowed, attribute_docs, code, page, spec_class, table

from harness.spec.loading import SpecModel
from harness.spec.model import ModelSpec, shipped_models
from harness.spec.profile import DeviceProfile
from harness.spec.recipe import Recipe
from harness.spec.sweep import PRESETS, MeasurementSettings, SweepSpec

KINDS: dict[str, tuple[type[SpecModel], str]] = {
    "sweep": (SweepSpec, "`harness sweep my.toml`; [what each key is for](../sweep.md)"),
    "model": (ModelSpec, "`--model my-model.toml`; [where models come from](../compression.md#models)"),
    "recipe": (Recipe, "`--recipe mine.toml`; [techniques and their settings](techniques.md)"),
    "profile": (DeviceProfile, "a file in `device_profiles/`; [how to add one](../how-to/phone-profile.md)"),
}
"""The kinds of file, what reads each, and where it is named."""
_FOLDER = "folder"
"""A field that harness fills in itself, and no key of a file."""


def files_page() -> str:
    """Return the page about all kinds of file."""
    introduction = (
        "Files are TOML. A key that is not known is refused, with the keys that are. Every kind has a "
        "[JSON schema](json-schemas.md), which editors use to complete and check."
    )
    parts = (part for name in KINDS for part in _kind(name))
    return page("Sweep, model, recipe and profile files", introduction, *parts)


def file_schemas() -> dict[str, str]:
    """Return the JSON schema of each kind of file, by its place in the site."""
    return {
        f"reference/schemas/{name}.json": json.dumps(_schema(kind), indent=2) + "\n"
        for name, (kind, _) in KINDS.items()
    }


def json_schemas_page(published: list[Path]) -> str:
    """Return the page that lists all schemas: of the files that are read, and of those that are written."""
    read = table(
        ["schema", "of"],
        ([f"[{name}.json](schemas/{name}.json)", f"[{name} file](files.md#{_anchor(name)})"] for name in KINDS),
    )
    written = table(["schema", "of"], ([f"[{path.name}](../schemas/{path.name})", _title(path)] for path in published))
    parts = ["## Files that harness reads", read]
    if published:
        parts += ["## Files that harness writes", written]
    return page("JSON schemas", *parts)


def _title(path: Path) -> str:
    schema = json.loads(path.read_text(encoding="utf-8"))
    return str(schema.get("title") or schema.get("description") or path.stem)


def _anchor(name: str) -> str:
    return f"a-{name}-file"


def _schema(kind: type[SpecModel]) -> dict[str, Any]:
    """Return the JSON schema of a file, which differs from its model's: presets fill in keys, and so does harness."""
    schema = kind.model_json_schema()
    schema["properties"].pop(_FOLDER, None)
    if kind is SweepSpec:
        schema.pop("required")
        schema["$defs"][MeasurementSettings.__name__].pop("required")
    return schema


def _kind(name: str) -> Iterator[str]:
    kind, place = KINDS[name]
    schema = _schema(kind)
    yield f"## A {name} file"
    yield f"Named by {place}."
    yield from _keys(kind, schema)
    if kind is SweepSpec:
        yield _presets()
    if kind is ModelSpec:
        yield f"Shipped models: {', '.join(map(code, shipped_models()))}."
    for inner in schema.get("$defs", {}):
        yield f"### {inner}"
        yield from _keys(spec_class(inner), schema["$defs"][inner])


def _keys(kind: type[SpecModel], schema: dict[str, Any]) -> Iterator[str]:
    docs, required = attribute_docs(kind), schema.get("required", ())
    yield inspect.cleandoc(kind.__doc__ or "")
    yield table(
        ["key", "allowed", "default", "what"],
        (
            [code(key), allowed(value), "required" if key in required else _default(value), docs.get(key, "")]
            for key, value in schema.get("properties", {}).items()
        ),
    )


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return code(json.dumps(default))


def _presets() -> str:
    keys = list(dict.fromkeys(key for preset in PRESETS.values() for key in preset))
    rows = ([code(key), *(str(preset.get(key, "")) for preset in PRESETS.values())] for key in keys)
    return (
        "A preset sets keys of `[measurement]`; a key that is given overrules it, an empty cell is the default.\n\n"
        + table(["key", *PRESETS], rows)
    )
