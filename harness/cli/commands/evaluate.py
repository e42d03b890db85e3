"""`harness evaluate`: what else compression changed, next to latency and size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.completion import complete_models
from harness.cli.options import DelegatesOption, recipes_option
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.progress import watch
from harness.cli.verb import Verb
from harness.errors import ExitCode
from harness.paths import cache_folder
from harness.text import to_json_value

if TYPE_CHECKING:
    from harness.evaluation.run import EvaluationResult
    from harness.evaluation.suite import Evaluation

app = Verb(help="Evaluate variants against the float model.")


@app.command(epilog="Example: harness evaluate fashion-dscnn --recipe int8 --suite")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="The float side: a shipped model's name, a .toml, .keras, .h5, .onnx, .pt2 or .tflite file, or a "
            "SavedModel folder.",
            autocompletion=complete_models,
        ),
    ] = ("fashion-dscnn"),
    variants: Annotated[list[Path] | None, typer.Argument(help="Ready variants: .tflite files.")] = None,
    recipe: Annotated[list[str] | None, recipes_option("fp16, dynamic-int8 and, with data, int8")] = None,
    task: Annotated[
        str | None, typer.Option(help="classification, embedding or tensors; default: what the model's TOML says.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help="A .npy or .npz file of inputs, instead of the model's data or noise.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=2, help="At most this many samples; default: 2000 labelled, 64 random.")
    ] = None,
    suite: Annotated[bool, typer.Option("--suite", help="Also corrupted and shifted images: minutes.")] = False,
    suite_samples: Annotated[int, typer.Option(min=50, help="Samples of each corruption, shift and attack.")] = 500,
    attack: Annotated[
        bool, typer.Option("--attack", help="Also adversarial images (FGSM, PGD); loads TensorFlow, takes minutes.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Also through a phone: its serial, virtual or virtual:RECORDING.")
    ] = None,
    delegate: DelegatesOption = None,
    mixed: Annotated[
        int, typer.Option("--mixed", min=0, help="Write a recipe that keeps this many of the noisiest layers in float.")
    ] = 0,
    finer: Annotated[
        bool, typer.Option("--finer", help="With --mixed: in the next finer format instead, which costs fewer bytes.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the recipes of --mixed.")] = Path(),
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML page, with where both models look on flipped images.")
    ] = None,
    as_json: bool = JsonOption,
) -> None:
    """Say what a variant's answers have lost: which, whether that is noise, under bad images, and in which layer.

    The float model always runs on this host, on the same samples; variants run here, and with --device there too.
    """
    from harness.evaluation.layers import write_mixed_recipe
    from harness.evaluation.run import SALIENCY_IMAGES, EvaluationRequest, evaluate

    asked = EvaluationRequest(
        model,
        tuple(variants or ()),
        tuple(recipe or ()),
        task,
        inputs,
        samples,
        suite_samples if suite else 0,
        suite_samples if attack else 0,
        SALIENCY_IMAGES if report else 0,
        device,
        tuple(delegate or ()),
    )
    with watch() as watcher:
        found = evaluate(asked, cache=cache_folder(), observer=watcher)
    on_host = [one for one in found.evaluations if one.layers]
    written = [write_mixed_recipe(one.variant.card, one.layers, mixed, output, finer=finer) for one in on_host if mixed]
    if report:
        from harness.report.html.evaluation_page import render_evaluation
        from harness.report.html.site import write_page

        written.append(write_page(report, render_evaluation(found)).path)
    if as_json:
        documents = [_as_json(one) for one in found.evaluations]
        print_json(
            {
                "model": found.model.name,
                "task": found.task.name,
                "evaluations": documents,
                "files": [str(path) for path in written],
            }
        )
    else:
        _print(found)
        for path in written:
            console().print(f"Written: {path}", soft_wrap=True, markup=False)
    if any(one.failure and not one.compared for one in found.evaluations):
        raise typer.Exit(ExitCode.CELL_FAILED)


def _as_json(evaluation: Evaluation) -> dict[str, object]:
    card = evaluation.variant.card
    variant = {"variant": card.recipe, "sha256": card.sha256, "size_bytes": card.size_bytes}
    return {key: to_json_value(value) for key, value in (asdict(evaluation) | variant).items()}


def _print(found: EvaluationResult) -> None:
    from harness.evaluation.suite import HOST
    from harness.report.terminal.evaluation import (
        attack_tables,
        comparison_table,
        condition_tables,
        delegate_table,
        layer_table,
        notes_on_data,
        sentences,
    )

    for data in found.data:
        console().print(comparison_table(found.evaluations, data))
        error_console().print(notes_on_data(found.evaluations, data), soft_wrap=True, markup=False)
    if through := [one for one in found.evaluations if one.delegate != HOST]:
        console().print("What the delegate changed, against this host's run of the same file:")
        console().print(delegate_table(through))
    for sentence in sentences(found.evaluations):
        error_console().print(sentence, soft_wrap=True, markup=False)
    for table, legend in [*condition_tables(found.evaluations), *attack_tables(found.evaluations)]:
        console().print(table)
        error_console().print(legend, soft_wrap=True, markup=False)
    for one in found.evaluations:
        if one.layers:
            console().print(f"{one.variant.name}: layers that add most noise", markup=False)
            console().print(layer_table(one.layers))
