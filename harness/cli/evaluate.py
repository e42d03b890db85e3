"""`harness evaluate`: what else compression changed, beside latency and size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.progress import watch
from harness.errors import UsageError
from harness.paths import cache_folder

if TYPE_CHECKING:
    from harness.evaluation.suite import Evaluation
    from harness.spec.model import ModelSpec

app = typer.Typer(add_completion=False, help="Evaluate variants against the float model.")

DEFAULT_RECIPES = ("fp16", "dynamic-int8", "int8")
FLOAT_RECIPE = "fp32"


@app.command(epilog="Example: harness evaluate fashion-dscnn --recipe int8 --suite")
def evaluate(
    model: Annotated[str, typer.Argument(help="A model with labelled data: a shipped name or a .toml file.")] = (
        "fashion-dscnn"
    ),
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", "-r", help="Recipe by name or TOML file; repeat for several.")
    ] = None,
    suite: Annotated[bool, typer.Option("--suite", help="Also corrupted and shifted images: minutes.")] = False,
    samples: Annotated[int, typer.Option(min=50, help="Labelled samples for fidelity, at most all.")] = 2000,
    suite_samples: Annotated[int, typer.Option(min=50, help="Samples of each corruption and shift.")] = 500,
    mixed: Annotated[
        int, typer.Option("--mixed", min=0, help="Write a recipe that leaves so many of the noisiest layers in float.")
    ] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the recipes of --mixed.")] = Path(),
    as_json: bool = JsonOption,
) -> None:
    """Say what a variant's answers have lost: which, whether that is noise, under bad images, and in which layer.

    Everything runs on this host, with the same samples through the float model.
    """
    from harness.spec.model import find_model

    spec = find_model(model)
    evaluations = _evaluate(spec, recipe or list(DEFAULT_RECIPES), samples, suite_samples if suite else 0)
    written = [_write_recipe(one, mixed, output) for one in evaluations] if mixed else []
    if as_json:
        documents = [_as_json(one) for one in evaluations]
        print_json({"model": spec.name, "evaluations": documents, "recipes": [str(path) for path in written]})
        return
    _print(evaluations)
    for path in written:
        console().print(f"Recipe: {path}", soft_wrap=True, markup=False)


def _evaluate(spec: ModelSpec, recipes: list[str], samples: int, suite_samples: int) -> list[Evaluation]:
    from harness.accuracy.dataset import load_dataset
    from harness.accuracy.reference import Reference
    from harness.compression.make import make_variant
    from harness.compression.recipes import find_recipe
    from harness.evaluation.suite import Suite

    dataset = load_dataset(spec)
    if dataset is None:
        raise UsageError(
            f"{spec.name} has no labelled data, so nothing can be evaluated.", "Give [data] in its TOML file."
        )
    cache = cache_folder()
    with watch() as bars:
        floats = make_variant(spec, find_recipe(FLOAT_RECIPE), cache=cache, observer=bars)
        variants = [make_variant(spec, find_recipe(name), cache=cache, observer=bars) for name in recipes]
        suite = Suite(
            dataset, floats, Reference(cache / "reference"), bars, count=samples, condition_count=suite_samples
        )  # fmt: skip
        return [suite.evaluate(variant) for variant in variants]


def _write_recipe(evaluation: Evaluation, count: int, folder: Path) -> Path:
    from harness.evaluation.layers import mixed_recipe, suggest_layers

    recipe = mixed_recipe(evaluation.variant.card, suggest_layers(evaluation.layers, count))
    path = folder / f"{evaluation.variant.name}-mixed.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(recipe, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Choose another folder: --output.") from error
    return path


def _as_json(evaluation: Evaluation) -> dict[str, object]:
    return {
        "variant": evaluation.variant.name,
        "sha256": evaluation.variant.sha256,
        "samples": evaluation.samples,
        "fidelity": asdict(evaluation.fidelity),
        "conditions": [asdict(condition) for condition in evaluation.conditions],
        "layers": [asdict(layer) for layer in evaluation.layers],
    }


def _print(evaluations: list[Evaluation]) -> None:
    from harness.report.evaluation import condition_table, fidelity_table, layer_table

    console().print(fidelity_table(evaluations))
    floats = evaluations[0].fidelity
    error_console().print(
        f"{evaluations[0].samples} samples on this host; float model: top-1 {100 * floats.float_top1.value:.2f} %, "
        f"ECE {floats.float_calibration_error:.3f}. lost: against the float model on the same samples, by McNemar's "
        "exact test; noise: chance gives as much more often than 1 in 20.",
        soft_wrap=True,
    )
    if evaluations[0].conditions:
        console().print(condition_table(evaluations))
        error_console().print("Points lost against the float model on the same images, mean over five severities; "
                              "*: more than noise at one severity or more.", soft_wrap=True)  # fmt: skip
    for one in evaluations:
        if one.layers:
            console().print(f"{one.variant.name}: layers that add most noise", markup=False)
            console().print(layer_table(one.layers))
