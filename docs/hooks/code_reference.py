"""Pages made of the lists that the program itself works with: columns, failures, techniques, recipes, delegates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from markdown_parts import allowed, attribute_docs, code, page, spec_class, table

from harness.analysis.result_row import COLUMNS
from harness.benchmark.delegates import DELEGATES, Delegate
from harness.compression.recipes import builtin_recipes
from harness.compression.registry import Technique, all_techniques
from harness.compression.training.settings import TrainingSettings
from harness.errors import ExitCode, FailureClass
from harness.spec.recipe import Recipe


def columns_page() -> str:
    """Return the page about the columns of a summary."""
    introduction = (
        "One row stands for one cell: variant, device, delegate and threads. `harness results show --json` and "
        "`harness results export` write these columns; [what they mean](../results.md). `Int64` and `boolean` are the "
        "types of pandas that can be empty."
    )
    rows = ([code(name), kind, text] for name, (kind, text) in COLUMNS.items())
    return page("Result columns", introduction, table(["column", "type", "holds"], rows))


def failures_page() -> str:
    """Return the page about failure classes and exit codes."""
    introduction = (
        "A failure is stored as a row with one of these classes, one sentence and the lines that prove it. The rest of "
        "the sweep goes on."
    )
    classes = table(["class", "what to do"], ([code(one.value), one.advice] for one in FailureClass))
    meanings = attribute_docs(ExitCode) | {ExitCode.OK.name: "All well."}
    codes = table(["code", "means"], ([str(one.value), meanings[one.name]] for one in ExitCode))
    return page("Failure classes and exit codes", introduction, classes, "## Exit codes", codes)


def techniques_page() -> str:
    """Return the page about recipes, and about techniques with every setting."""
    introduction = "What each is good for, with figures, is told in [techniques and recipes](../techniques.md)."
    recipes = table(["recipe", "what it does", "steps"], map(_recipe, builtin_recipes().values()))
    training = TrainingSettings.model_json_schema()
    settings = [part for one in all_techniques().values() for part in _technique(one, training["properties"])]
    common = _settings(TrainingSettings, training["properties"])
    return page(
        "Recipes and techniques",
        introduction,
        "## Recipes",
        recipes,
        "## Techniques",
        *settings,
        "### All techniques that train",
        common,
    )


def delegates_page() -> str:
    """Return the page about delegates."""
    introduction = (
        "What can be asked for with `--delegate`, the flags of the interpreter's `benchmark_model` that ask for it, "
        "the names by which a log proves that it ran, and whether LiteRT's `benchmark_model` offers it. What stands "
        "after a colon is yours to fill in."
    )
    rows = (_delegate(one) for one in DELEGATES.values())
    return page("Delegates", introduction, table(["delegate", "flags", "names in a log", "LiteRT's tool"], rows))


def _recipe(recipe: Recipe) -> list[str]:
    steps = " → ".join(f"[{step.technique}](#{step.technique})" for step in recipe.steps)
    return [code(recipe.name), recipe.summary, steps or "none: the float model as it is"]


def _technique(technique: Technique, common: Mapping[str, Any]) -> Iterator[str]:
    schema = technique.settings_type.model_json_schema()
    properties = schema.get("properties", {})
    trains = issubclass(technique.settings_type, TrainingSettings)
    own = {key: value for key, value in properties.items() if not (trains and value == common.get(key))}
    yield f"### {technique.name}"
    yield technique.summary
    yield _settings(technique.settings_type, own)
    for name, inner in schema.get("$defs", {}).items():
        yield f"#### {name}"
        yield _settings(spec_class(name), inner["properties"])
    if trains:
        yield "And those of [all techniques that train](#all-techniques-that-train)."
    if technique.refused_after:
        yield f"Refused after {_reasons(technique.refused_after)}."


def _reasons(refused_after: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, reason in refused_after.items():
        names.setdefault(reason.rstrip("."), []).append(code(name))
    return "; ".join(f"{', '.join(together)} ({reason})" for reason, together in names.items())


def _settings(kind: type, properties: Mapping[str, Any]) -> str:
    docs = attribute_docs(kind)
    rows = ([code(key), allowed(value), _default(value), docs.get(key, "")] for key, value in properties.items())
    return table(["setting", "allowed", "default", "what"], rows)


def _default(value: Mapping[str, Any]) -> str:
    return "" if value.get("default") in (None, []) else code(json.dumps(value["default"]))


def _delegate(delegate: Delegate) -> list[str]:
    yours = "PATH" if delegate.name == "external:" else "ACCELERATOR"
    flags = " ".join(f"--{flag}={value.format(accelerator=yours)}" for flag, value in delegate.flags)
    in_log = ", ".join(map(code, delegate.log_names))
    name = delegate.name.replace(":", f":{yours}")
    return [code(name), code(flags), in_log, "yes" if delegate.compiled_model_flags else "no"]
