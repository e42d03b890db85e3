"""The page about the command line: every verb with its arguments and options, from the program itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main
from markdown_parts import code, page, table

from harness.cli.main import app

_COMPLETION = ("install_completion", "show_completion")
_INTRODUCTION = (
    "Every verb takes `--help` and ends with one of the [exit codes](failures.md#exit-codes). Verbs with `--json` "
    "print one document with a `schema_version`. Nothing needs a terminal: into a pipe there are no colours and no "
    "progress bars."
)


def command_line_page() -> str:
    """Return the page."""
    program: Any = typer.main.get_command(app)
    context = program.make_context("harness", [], resilient_parsing=True)
    verbs = [program.get_command(context, name) for name in program.list_commands(context)]
    overview = table(["verb", "does"], ([f"[{verb.name}](#harness-{verb.name})", _first(verb)] for verb in verbs))
    parts = (part for verb in verbs for part in _verb(verb, "harness", 2))
    return page("Command line", _INTRODUCTION, overview, *parts)


def _verb(command: Any, before: str, level: int) -> Iterator[str]:  # noqa: ANN401
    name = f"{before} {command.name}"
    yield f"{'#' * level} {name}"
    yield inspect.cleandoc(command.help or "")
    parameters = [one for one in command.params if one.name not in _COMPLETION]
    if parameters:
        yield table(["argument or option", "value", "default", "what"], map(_parameter, parameters))
    if command.epilog:
        yield f"Example: {code(command.epilog.removeprefix('Example: '))}"
    for inner in getattr(command, "commands", {}).values():
        yield from _verb(inner, name, level + 1)


def _first(command: Any) -> str:  # noqa: ANN401
    return inspect.cleandoc(command.help or "").split("\n\n")[0]


def _parameter(parameter: Any) -> list[str]:  # noqa: ANN401
    is_option = parameter.opts[0].startswith("-")
    names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.metavar or parameter.name.upper()]
    return [", ".join(map(code, names)), _value(parameter), _default(parameter), parameter.help or ""]


def _value(parameter: Any) -> str:  # noqa: ANN401
    if getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.type
    if hasattr(kind, "choices"):
        shown = ", ".join(map(code, kind.choices))
    else:
        is_option = parameter.opts[0].startswith("-")
        shown = code(parameter.metavar) if parameter.metavar and is_option else _value_kind(kind.name)
    return f"{shown}, may be repeated" if parameter.multiple else shown


def _value_kind(name: str) -> str:
    """Return what to call a value of the type of that name, such as "int" or "float range"."""
    name = name.removesuffix(" range")
    kinds = {"str": "text", "int": "whole number", "integer": "whole number", "float": "number"}
    return kinds.get(name, "path" if name in ("file", "directory") else name)


def _default(parameter: Any) -> str:  # noqa: ANN401
    if parameter.required:
        return "required"
    value = parameter.default
    if callable(value) or value in (None, False, (), []):
        return ""
    if value is True:
        return "on"
    return code(value.value if isinstance(value, Enum) else value)
