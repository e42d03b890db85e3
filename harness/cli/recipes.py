"""`harness recipes`: list recipes and the techniques that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from harness.cli.output import JsonOption, console, print_json

if TYPE_CHECKING:
    from harness.spec.recipe import Recipe

EXAMPLE = "Example: harness recipes --json"

app = typer.Typer(help="List recipes and techniques.", add_completion=False)


@app.command(epilog=EXAMPLE)
def recipes(as_json: bool = JsonOption) -> None:
    """List the built-in recipes, and the techniques with their settings for recipes of your own."""
    from rich.table import Table

    from harness.compression.recipes import builtin_recipes
    from harness.compression.registry import all_techniques
    from harness.compression.runtime_check import known_runtimes

    known = builtin_recipes()
    techniques = all_techniques()
    if as_json:
        print_json(
            {
                "recipes": [recipe.model_dump(mode="json") for recipe in known.values()],
                "techniques": [
                    {"name": one.name, "summary": one.summary, "settings": one.settings_type.model_json_schema()}
                    for one in techniques.values()
                ],
                "target_runtimes": [*known_runtimes(), "current"],
            }
        )
        return
    table = Table(title="Recipes", title_justify="left")
    for column in ("recipe", "steps", "what it does"):
        table.add_column(column)
    for recipe in known.values():
        table.add_row(recipe.name, _steps(recipe), recipe.summary)
    console().print(table)
    table = Table(title="Techniques", title_justify="left")
    for column in ("technique", "setting", "allowed", "default"):
        table.add_column(column)
    for one in techniques.values():
        for index, (name, schema) in enumerate(one.settings_type.model_json_schema()["properties"].items()):
            table.add_row(one.name if index == 0 else "", name, _allowed(schema), str(schema.get("default", "")))
    console().print(table)
    console().print("A recipe of your own is a TOML file: see docs/compression.md.")


def _steps(recipe: Recipe) -> str:
    return "\n".join(
        f"{step.technique} ({', '.join(str(value) for value in step.settings.values())})" for step in recipe.steps
    )


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "minimum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return str(schema.get("const", schema.get("type", "")))
