"""`harness compress`: make variants of a model, without measuring them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.api import compress as compress_model
from harness.cli.completion import complete_models
from harness.cli.options import AllowCodeOption, DataOption, PixelsOption, pixel_range, recipes_option
from harness.cli.output import JsonOption, console, print_error, print_json
from harness.cli.progress import watch
from harness.cli.verb import Verb
from harness.errors import CompressionError, ExitCode, Failure

if TYPE_CHECKING:
    from harness.api import CompressedVariants
    from harness.report.terminal.fitting import FittedTable
    from harness.sweep.variants import FailedVariant
    from harness.tflite.variant import Variant

DEFAULT_MODEL = "fashion-dscnn"
EXAMPLE = "Example: harness compress fashion-dscnn --recipe int8 --output variants"
SMALLEST_SHARE = 0.01
"""Weight types below this share of a file's constants are left out of the table."""

OutputOption = typer.Option(
    None, "--output", "-o", help="Folder for MODEL-RECIPE.tflite and its card; without it they stay in the cache."
)

MaxDropOption = typer.Option(
    None,
    "--max-drop",
    min=0.01,
    help="Points of top-1 that quantized variants may lose: the costliest layers get their precision back.",
)

app = Verb(help="Make variants of a model.")


@app.command(epilog=EXAMPLE)
def compress(
    model: str = typer.Argument(
        DEFAULT_MODEL,
        help="A shipped model's name, a .toml, .keras, .h5, .tflite, .onnx or .pt2 file, or a SavedModel folder.",
        autocompletion=complete_models,
    ),
    recipe: Annotated[list[str] | None, recipes_option("fp32, fp16, dynamic-int8, int8, int8-io")] = None,
    data: DataOption = None,
    pixels: PixelsOption = None,
    output: Path | None = OutputOption,
    max_drop: float | None = MaxDropOption,
    show: bool = typer.Option(False, "--show", help="Show what each step did and how every tensor stores its numbers."),
    allow_code: bool = AllowCodeOption,
    as_json: bool = JsonOption,
) -> None:
    """Make variants of a model and show what is in them. What was made before comes from the cache."""
    with watch() as watcher:
        found = compress_model(
            model,
            recipe or None,
            data=data,
            pixels=pixel_range(pixels),
            output=output,
            max_drop_points=max_drop,
            allow_code=allow_code,
            progress=watcher,
        )
    lost = [failure for variant in found.variants if (failure := _lost(variant))]
    if not as_json:
        for failure in _apart(found.failures):
            print_error(CompressionError(failure))
    if as_json:
        print_json(
            {
                "model": found.model,
                "variants": [_as_json(variant, show) for variant in found.variants],
                "failures": [
                    {
                        "recipe": failed.recipe,
                        "class": failed.failure.failure_class,
                        "message": failed.failure.message,
                        "evidence": failed.failure.evidence,
                    }
                    for failed in found.failures
                ],
            }
        )
    elif found.variants:
        console().print(_table(found))
        for variant in found.variants:
            if show:
                _show(variant)
            console().print(f"{variant.name}: {variant.path}", soft_wrap=True)
        for failure in lost:
            print_error(CompressionError(failure))
    if found.failures or lost:
        raise typer.Exit(ExitCode.CELL_FAILED)


def _apart(failures: Sequence[FailedVariant]) -> Iterator[Failure]:
    """Yield failures that say different things; of those that differ in the recipe's name, the first names the others.

    An operator that the runtime lacks, or a file that cannot be read, stops every recipe in the same words.
    """
    alike: dict[str, list[FailedVariant]] = {}
    for failed in failures:
        alike.setdefault(failed.failure.message.replace(failed.recipe, ""), []).append(failed)
    for first, *others in alike.values():
        names = ", ".join(other.recipe for other in others)
        is_named = first.recipe in first.failure.message
        more = f" The same goes for {names}." if names and is_named else ""
        yield dataclasses.replace(first.failure, message=first.failure.message + more)


def _lost(variant: Variant) -> Failure | None:
    fidelity = variant.card.fidelity
    return fidelity.failure(variant.name) if fidelity else None


def _table(found: CompressedVariants) -> FittedTable:
    from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section

    columns = (
        FittingColumn("variant", 9),
        FittingColumn("size\nkB", 8, is_numeric=True),
        FittingColumn("gzip\nkB", 5, is_numeric=True),
        FittingColumn("ops", 2, is_numeric=True),
        FittingColumn("weights\nkB", 4, is_numeric=True),
        FittingColumn("input", 3),
        FittingColumn("SNR\ndB", 7, is_numeric=True),
        FittingColumn("made in\ns", 1, is_numeric=True),
    )
    rows = []
    for variant in found.variants:
        card = variant.card
        snr_db = card.fidelity.worst.snr_db if card.fidelity else None
        texts = (
            variant.name,
            f"{card.size_bytes / 1000:.1f}",
            f"{card.gzip_size_bytes / 1000:.1f}",
            str(sum(card.operators.values())),
            _weights(card.weight_types),
            ", ".join(sorted({tensor.type for tensor in card.inputs})),
            "-" if snr_db is None else f"{snr_db:.1f}",
            f"{card.seconds:.1f}",
        )
        rows.append(FittingRow(texts))
    return FittedTable(columns, [Section(rows, title=f"Variants of {found.model}")])


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
    console().print(Text(f"against the float model: {variant.card.fidelity}"), soft_wrap=True)
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
