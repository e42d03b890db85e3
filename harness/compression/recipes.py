"""Built-in recipes and recipes of a person's own, checked down to every technique's settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path

from harness.compression.calibration import GIVE_DATA, CalibrationRequest
from harness.compression.registry import Technique, TechniqueSettings, TechniqueStage, get_technique
from harness.errors import UsageError
from harness.spec.loading import load_spec, validate_spec
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe
from harness.tflite.runtimes import CURRENT, known_runtimes

QUANTIZATION = "quantization"
_BUILTIN = Path(__file__).with_name("recipes.toml")


def builtin_recipes() -> dict[str, Recipe]:
    """Return the built-in recipes by name."""
    tables = tomllib.loads(_BUILTIN.read_text(encoding="utf-8"))["recipe"]
    recipes = [_checked(validate_spec(table, Recipe, origin=_BUILTIN.name), origin=_BUILTIN.name) for table in tables]
    return {recipe.name: recipe for recipe in recipes}


def find_recipe(text: str) -> Recipe:
    """Find a recipe by a built-in name or by the path of a TOML file. Raises `UsageError`."""
    if text.endswith(".toml"):
        return _checked(load_spec(Path(text), Recipe), origin=text)
    recipes = builtin_recipes()
    if text in recipes:
        return recipes[text]
    close = difflib.get_close_matches(text, recipes, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(
        f"There is no recipe {text!r}.{hint}", f"Name a built-in one ({', '.join(recipes)}) or a recipe's TOML file."
    )


DEFAULT_RECIPES = ("fp32", "fp16", "dynamic-int8", "int8", "int8-io")


def usual_recipes(names: Sequence[str], model: ModelSpec) -> tuple[list[Recipe], str]:
    """Return default recipes by name, without those that need calibration data if the model has none.

    Also returns the sentence that says so, empty if none is left out.
    """
    recipes = [find_recipe(name) for name in names]
    left_out = [recipe.name for recipe in recipes if model.data is None and _needs_calibration(recipe)]
    note = f"{model.name} has no calibration data: leaving out {', '.join(left_out)}. {GIVE_DATA}" if left_out else ""
    return [recipe for recipe in recipes if recipe.name not in left_out], note


def within_budget(recipe: Recipe, max_drop_points: float) -> Recipe:
    """Return a recipe whose quantization keeps an accuracy budget; one without quantization stays as it is."""
    if not any(step.technique == QUANTIZATION for step in recipe.steps):
        return recipe
    steps = tuple(
        step.model_copy(update={"settings": {**step.settings, "max_drop_points": max_drop_points}})
        if step.technique == QUANTIZATION
        else step
        for step in recipe.steps
    )
    name = f"{recipe.name}-drop{max_drop_points:g}"
    return _checked(recipe.model_copy(update={"name": name, "steps": steps}), origin=f"recipe {name}")


def step_settings(recipe: Recipe, *, origin: str) -> list[TechniqueSettings]:
    """Return every step's validated settings. Raises `UsageError` whose sentence starts with `origin`."""
    return [get_technique(step.technique, origin=origin).settings(step, origin=origin) for step in recipe.steps]


def trains(recipe: Recipe) -> bool:
    """Return True if a recipe needs labelled images to train on."""
    return any(settings.needs_training_data() for settings in step_settings(recipe, origin=f"recipe {recipe.name}"))


def needs(recipe: Recipe) -> list[str]:
    """Return which data a recipe needs next to the model."""
    needed = {"calibration data": _needs_calibration(recipe), "training data": trains(recipe)}
    return [name for name, is_needed in needed.items() if is_needed]


def leading_weight_steps(recipe: Recipe) -> int:
    """Return how many steps at a recipe's start need a Keras model; the converted graph after them can be shared."""
    origin = f"recipe {recipe.name}"
    stages = [get_technique(step.technique, origin=origin).stage for step in recipe.steps]
    steps = zip(stages, step_settings(recipe, origin=origin), strict=True)
    return max(
        (
            place
            for place, (stage, settings) in enumerate(steps, start=1)
            if stage is TechniqueStage.WEIGHTS and not settings.works_on_graph()
        ),
        default=0,
    )


def calibration_request(recipe: Recipe) -> CalibrationRequest | None:
    """Return which calibration data a recipe uses: that of its first step that needs any, else that would like any."""
    settings = step_settings(recipe, origin=f"recipe {recipe.name}")
    requests = [request for one in settings if (request := one.calibration_request()) is not None]
    return min(requests, key=lambda request: request.is_optional, default=None)


def _needs_calibration(recipe: Recipe) -> bool:
    request = calibration_request(recipe)
    return request is not None and not request.is_optional


def _checked(recipe: Recipe, *, origin: str) -> Recipe:
    allowed = (*known_runtimes(), CURRENT)
    if recipe.target_runtime not in allowed:
        raise UsageError(
            f"{origin}: key 'target_runtime': found {recipe.target_runtime!r}; known are {', '.join(allowed)}.",
            "Fix the recipe and run the command again.",
        )
    step_settings(recipe, origin=origin)
    _check_order([get_technique(step.technique, origin=origin) for step in recipe.steps], origin=origin)
    return recipe


def _check_order(techniques: list[Technique], *, origin: str) -> None:
    """Refuse an order of steps in which one undoes, or cannot follow, another; say why."""
    for index, technique in enumerate(techniques):
        for earlier in techniques[:index]:
            reason = technique.refused_after.get(earlier.name)
            if reason is None and technique.stage is TechniqueStage.WEIGHTS and earlier.stage is TechniqueStage.GRAPH:
                reason = f"{earlier.name} works on the converted graph, which can no longer be changed or trained"
            if reason is not None:
                raise UsageError(
                    f"{origin}: {technique.name} cannot come after {earlier.name}: {reason}.",
                    f"Put {technique.name} before {earlier.name}, or leave one of them out.",
                )
