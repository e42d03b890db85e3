"""`harness compress`: make variants of a model, without measuring them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.options import AllowCodeOption, let_code_run
from harness.cli.output import JsonOption, console, error_console, print_error, print_json
from harness.errors import CompressionError, ExitCode, UsageError
from harness.paths import cache_folder

if TYPE_CHECKING:
    from rich.table import Table

    from harness.spec.model import ModelSpec
    from harness.spec.recipe import Recipe
    from harness.tflite.variant import Variant

DEFAULT_MODEL = "fashion-dscnn"
DEFAULT_RECIPES = ("fp32", "fp16", "dynamic-int8", "int8", "int8-io")
EXAMPLE = "Example: harness compress fashion-dscnn --recipe int8 --output variants"
SMALLEST_SHARE = 0.01
"""Weight types below this share of a file's constants are left out of the table."""

RecipeOption = typer.Option(
    None,
    "--recipe",
    "-r",
    help=f"Built-in recipe or recipe TOML file; may be repeated. Default: {', '.join(DEFAULT_RECIPES)}.",
)
OutputOption = typer.Option(
    None, "--output", "-o", help="Folder for MODEL-RECIPE.tflite and its card; without it they stay in the cache."
)

MaxDropOption = typer.Option(
    None,
    "--max-drop",
    min=0.01,
    help="Points of top-1 that quantized variants may lose: the costliest layers get their precision back.",
)

app = typer.Typer(help="Make variants of a model.", add_completion=False)


@app.command(epilog=EXAMPLE)
def compress(
    model: str = typer.Argument(
        DEFAULT_MODEL,
        help="A shipped model's name, a .toml, .keras, .h5, .tflite, .onnx or .pt2 file, or a SavedModel folder.",
    ),
    recipe: list[str] | None = RecipeOption,
    output: Path | None = OutputOption,
    max_drop: float | None = MaxDropOption,
    show: bool = typer.Option(False, "--show", help="Show what each step did and how every tensor stores its numbers."),
    allow_code: bool = AllowCodeOption,
    as_json: bool = JsonOption,
) -> None:
    """Make variants of a model and show what is in them. What was made before comes from the cache."""
    from harness.compression.recipes import find_recipe, within_budget
    from harness.spec.model import find_model

    if allow_code:
        let_code_run()
    spec = find_model(model)
    recipes = [find_recipe(text) for text in recipe] if recipe else _default_recipes(spec)
    if max_drop is not None:
        recipes = [within_budget(one, max_drop) for one in recipes]
    if output is not None:
        _make_folder(output)
    made: list[Variant] = []
    failed: list[tuple[str, CompressionError]] = []
    for one in recipes:
        try:
            made.append(_make(spec, one, output))
        except CompressionError as error:
            failed.append((one.name, error))
            if not as_json:
                print_error(error)
    if as_json:
        print_json(
            {
                "model": spec.name,
                "variants": [_as_json(variant, show) for variant in made],
                "failures": [
                    {
                        "recipe": name,
                        "class": error.failure.failure_class,
                        "message": error.failure.message,
                        "evidence": error.failure.evidence,
                    }
                    for name, error in failed
                ],
            }
        )
    elif made:
        console().print(_table(spec, made))
        for variant in made:
            if show:
                _show(variant)
            console().print(f"{variant.name}: {variant.path}", soft_wrap=True)
    if failed:
        raise typer.Exit(ExitCode.CELL_FAILED)


def _default_recipes(spec: ModelSpec) -> list[Recipe]:
    """Return the default recipes; without data, those that need none, and say so."""
    from harness.compression.recipes import calibration_request, find_recipe

    recipes = [find_recipe(name) for name in DEFAULT_RECIPES]
    if spec.data is not None:
        return recipes
    calibrated = [recipe.name for recipe in recipes if calibration_request(recipe) is not None]
    error_console().print(
        f"{spec.name} has no data to calibrate on: leaving out {', '.join(calibrated)}.", soft_wrap=True
    )
    return [recipe for recipe in recipes if recipe.name not in calibrated]


def _make(spec: ModelSpec, recipe: Recipe, output: Path | None) -> Variant:
    from harness.cli.progress import watch
    from harness.compression.make import make_variant
    from harness.tflite.variant import Variant

    with watch() as watcher:
        variant = make_variant(spec, recipe, cache=cache_folder(), observer=watcher)
    if output is None:
        return variant
    target = output / f"{spec.name}-{recipe.name}.tflite".replace("/", "_")
    try:
        shutil.copyfile(variant.path, target)
        target.with_suffix(".json").write_text(variant.card.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror}).", "Choose another --output.") from error
    return Variant(target, variant.card)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: no such folder can be made ({error.strerror}).", "Choose another.") from error


def _table(spec: ModelSpec, made: list[Variant]) -> Table:
    from rich.table import Table

    table = Table(title=f"Variants of {spec.name}", title_justify="left")
    table.add_column("variant", no_wrap=True)
    for column in ("size kB", "gzip kB", "ops"):
        table.add_column(column, justify="right")
    table.add_column("weights kB", justify="right", no_wrap=True)
    table.add_column("input")
    table.add_column("made in", justify="right")
    for variant in made:
        card = variant.card
        table.add_row(
            variant.name,
            f"{card.size_bytes / 1000:.1f}",
            f"{card.gzip_size_bytes / 1000:.1f}",
            str(sum(card.operators.values())),
            _weights(card.weight_types),
            ", ".join(sorted({tensor.type for tensor in card.inputs})),
            f"{card.seconds:.1f} s",
        )
    return table


def _as_json(variant: Variant, show: bool) -> dict[str, object]:
    from dataclasses import asdict

    from harness.tflite.number_formats import read_grids

    grids = {"tensors": [asdict(grid) for grid in read_grids(variant.path.read_bytes())]} if show else {}
    return {"path": str(variant.path), **variant.card.model_dump(mode="json"), **grids}


def _show(variant: Variant) -> None:
    """Print the steps' own words, and the tensors' number formats."""
    from rich.table import Table
    from rich.text import Text

    from harness.tflite.number_formats import read_grids

    for facts in variant.card.step_facts:
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if key != "technique")
        console().print(Text(f"{facts['technique']}: {words or 'done'}"), soft_wrap=True)
    table = Table(title=f"Tensors of {variant.name}: code = round(real / step + offset)", title_justify="left")
    for heading in ("tensor", "what", "type"):
        table.add_column(heading, overflow="fold")
    for heading in ("range", "step", "offset"):
        table.add_column(heading, justify="right", no_wrap=True)
    for grid in read_grids(variant.path.read_bytes()):
        spread = "" if grid.scales <= 1 else f"\n({grid.scales} steps)"
        table.add_row(
            Text(_short(grid.tensor)),
            grid.written_by,
            grid.type,
            "-" if grid.low is None else _range(grid.low, grid.high or 0.0),
            "-" if grid.steps is None else _range(*grid.steps) + spread,
            "-" if grid.offsets is None else _range(*grid.offsets),
        )
    console().print(table)


def _short(tensor: str) -> str:
    """Return the layer's part of a converter's name, which joins the paths of all that was fused."""
    return "/".join(tensor.split(";", maxsplit=1)[0].split("/")[-2:])


def _range(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"


def _weights(types: dict[str, int]) -> str:
    total = sum(types.values())
    largest_first = sorted(types.items(), key=lambda item: -item[1])
    return "\n".join(f"{name} {size / 1000:.1f}" for name, size in largest_first if size >= SMALLEST_SHARE * total)
