"""`harness recipes`: list recipes and the techniques that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.output import JsonOption, console, folding_table, print_json
from harness.cli.verb import Verb

if TYPE_CHECKING:
    from rich.table import Table

    from harness.spec.recipe import Recipe

EXAMPLE = "Example: harness recipes --json"

_KINDS = {"array": "a list", "boolean": "true, false", "string": "text", "integer": "a whole number"}

app = Verb(help="List recipes and techniques.")


@app.command(epilog=EXAMPLE)
def recipes(as_json: bool = JsonOption) -> None:
    """List the built-in recipes, and the techniques with their settings for recipes of your own."""
    from harness.compression.recipes import builtin_recipes, needs
    from harness.compression.registry import all_techniques
    from harness.compression.training.settings import TrainingSettings
    from harness.tflite.runtimes import known_runtimes

    known = builtin_recipes()
    techniques = all_techniques()
    if as_json:
        print_json(
            {
                "recipes": [recipe.model_dump(mode="json") | {"needs": needs(recipe)} for recipe in known.values()],
                "techniques": [
                    {"name": one.name, "summary": one.summary, "settings": one.settings_type.model_json_schema()}
                    for one in techniques.values()
                ],
                "target_runtimes": [*known_runtimes(), "current"],
            }
        )
        return
    table = folding_table("recipe", "steps", "what it does", "needs", title="Recipes")
    for recipe in known.values():
        table.add_row(recipe.name, _steps(recipe), recipe.summary, "\n".join(needs(recipe)) or "-")
    console().print(table)
    console().print(
        "Calibration data are the model's own. Training data of the shipped models are downloaded by Keras, unless "
        "Debian's package dataset-fashion-mnist is installed."
    )
    table = folding_table("technique", "setting", "allowed", "default", title="Techniques")
    common = TrainingSettings.model_json_schema()["properties"]
    for one in techniques.values():
        settings = one.settings_type.model_json_schema()["properties"]
        trains = issubclass(one.settings_type, TrainingSettings)
        own = {name: schema for name, schema in settings.items() if not (trains and schema == common.get(name))}
        _add_settings(table, one.name, own)
    _add_settings(table, "all that train", common)
    console().print(table)
    console().print("A recipe of your own is a TOML file: see docs/compression.md.")


def _add_settings(table: Table, name: str, settings: dict[str, Any]) -> None:
    for index, (setting, schema) in enumerate(settings.items()):
        default = schema.get("default")
        shown = "none" if default in (None, []) else str(default)
        table.add_row(name if index == 0 else "", setting, _allowed(schema), shown)


def _steps(recipe: Recipe) -> str:
    return "\n".join(step.technique for step in recipe.steps)


def _allowed(schema: dict[str, Any]) -> str:
    """Say in a few words what a setting may be, from its JSON schema."""
    if "anyOf" in schema:  # a setting that may be left out
        return " or ".join(_allowed(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(str(one) for one in schema["enum"])
    low, high = (
        _limit(schema, "minimum", "exclusiveMinimum", "over"),
        _limit(schema, "maximum", "exclusiveMaximum", "below"),
    )
    if low and high:
        return f"{low} to {high}"
    if low or high:
        return f"at least {low}" if low else f"at most {high}"
    return _KINDS.get(schema.get("type", ""), str(schema.get("const", schema.get("type", ""))))


def _limit(schema: dict[str, Any], inclusive: str, exclusive: str, word: str) -> str:
    if inclusive in schema:
        return str(schema[inclusive])
    return f"{word} {schema[exclusive]}" if exclusive in schema else ""
