"""Recipes and the registry of techniques: what is known, and how mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.compression.recipes import builtin_recipes, calibration_request, find_recipe, within_budget
from harness.compression.registry import TechniqueSettings, all_techniques, technique
from harness.errors import UsageError


def test_the_built_in_recipes() -> None:
    recipes = builtin_recipes()
    assert list(recipes)[:6] == ["fp32", "fp16", "dynamic-int8", "int8", "int8-io", "as-is"]
    used = {step.technique for recipe in recipes.values() for step in recipe.steps}
    assert used == set(all_techniques()), "every technique has a recipe that shows it"
    assert all(recipe.target_runtime == "2.14" for name, recipe in recipes.items() if name != "as-is")
    calibrated = {name for name, recipe in recipes.items() if calibration_request(recipe)}
    assert {"int8", "int8-io", "int16x8", "qat-int4"} <= calibrated
    assert not calibrated & {"fp32", "fp16", "dynamic-int8", "as-is", "prune80", "cluster16", "low-rank"}


def test_every_technique_has_a_summary_and_settings_with_defaults() -> None:
    techniques = all_techniques()
    assert "quantization" in techniques
    for one in techniques.values():
        assert one.summary
        one.settings_type()


def test_two_techniques_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="quantization"):
        technique("quantization", TechniqueSettings)(lambda _work, _settings: None)


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntarget_runtime = "current"\n'
        '[[steps]]\ntechnique = "quantization"\nsettings = { activations = "int8", calibration = "random" }\n'
    )
    recipe = find_recipe(str(path))
    assert (recipe.name, recipe.target_runtime) == ("mine", "current")
    request = calibration_request(recipe)
    assert request is not None
    assert request.kind == "random"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "r"\ntargt_runtime = "2.14"', "Did you mean 'target_runtime'"),
        ('name = "r"\ntarget_runtime = "1.9"', "found '1.9'; known are 2.14, current"),
        ('name = "r"\n[[steps]]\ntechnique = "prunning"', "unknown technique 'prunning'"),
        ('name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { weight = "int8" }', "Did you mean 'weights'"),
        ('name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { weights = "int5" }', "int5"),
        (
            'name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { io = "int8" }',
            'io = "int8" needs activations = "int8"',
        ),
        (
            'name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { weights = "fp16", activations = "int8" }',
            'activations = "int8" needs integer weights',
        ),
        (
            'name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { granularity = "block-32" }',
            'needs weights = "int4" and float activations',
        ),
        (
            'name = "r"\n[[steps]]\ntechnique = "quantization"\n'
            'settings = { weights = "int3", layers = [{ match = "x", weights = "int4" }] }',
            "int3 and int4 cannot be mixed",
        ),
        (
            'name = "r"\n[[steps]]\ntechnique = "quantization"\nsettings = { layers = [{ match = "(" }] }',
            "is not a regular expression",
        ),
        (
            'name = "r"\n[[steps]]\ntechnique = "pruning"\nsettings = { epochs = 0, schedule = "gradual" }',
            "need epochs",
        ),
        ("name = ", "not valid TOML"),
    ],
)
def test_mistakes_name_the_file_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        find_recipe(str(path))
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def _recipe(folder: Path, *techniques: str) -> Path:
    path = folder / "order.toml"
    path.write_text('name = "order"\n' + "".join(f'[[steps]]\ntechnique = "{name}"\n' for name in techniques))
    return path


@pytest.mark.parametrize(
    ("techniques", "reason"),
    [
        (("quantization", "pruning"), "works on the converted graph"),
        (("quantization", "quantization"), "quantized already"),
        (("sparse-storage", "quantization"), "does not read sparse tensors"),
        (("clustering", "pruning"), "prune first"),
        (("pruning", "low-rank"), "zeros and shared values would be lost"),
        (("pruning", "channel-pruning"), "prune channels first"),
        (("clustering", "distillation"), "new network"),
        (("pruning", "clustering", "quantization-aware-training", "quantization", "distillation"), "new network"),
    ],
)
def test_an_order_that_undoes_itself_is_refused_with_the_reason(
    tmp_path: Path, techniques: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=f"{techniques[-1]} cannot come after") as caught:
        find_recipe(str(_recipe(tmp_path, *techniques)))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "techniques",
    [
        ("pruning", "clustering", "quantization-aware-training", "quantization", "sparse-storage"),
        ("distillation", "channel-pruning", "low-rank", "pruning", "quantization"),
        ("low-rank", "clustering", "quantization-aware-training", "quantization"),
        ("quantization-aware-training", "pruning", "quantization"),
    ],
)
def test_every_order_that_makes_sense_is_taken(tmp_path: Path, techniques: tuple[str, ...]) -> None:
    assert len(find_recipe(str(_recipe(tmp_path, *techniques))).steps) == len(techniques)


def test_a_budget_goes_to_the_quantization_alone() -> None:
    recipe = within_budget(find_recipe("qat-int8"), 0.5)
    assert recipe.name == "qat-int8-drop0.5"
    assert recipe.steps[1].settings["max_drop_points"] == 0.5
    assert "max_drop_points" not in recipe.steps[0].settings
    assert within_budget(find_recipe("prune80"), 0.5) == find_recipe("prune80")


def test_an_unknown_recipe_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'int8-io'"):
        find_recipe("int8_io")


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import harness.cli.commands.recipes, harness.cli.commands.compress\n"
        "from harness.compression.recipes import builtin_recipes\n"
        "from harness.compression.registry import all_techniques\n"
        "all_techniques(); builtin_recipes()\n"
        "print(sorted({'tensorflow', 'keras', 'litert_quantizer', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
