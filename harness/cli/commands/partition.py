"""`harness partition`: cut a model into stages, and prove that they compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import ResultsOption
from harness.cli.output import JsonOption, console, error_console, print_json
from harness.cli.progress import watch
from harness.cli.verb import Verb
from harness.errors import ExitCode
from harness.paths import cache_folder, default_results
from harness.text import require_choice, to_json_value

if TYPE_CHECKING:
    from harness.partition.experiment import Experiment
    from harness.partition.graph import Graph
    from harness.partition.partition import Partition
    from harness.tflite.variant import Variant

app = Verb(help="Cut a model into stages.")

BALANCES = ("work", "time", "bytes")


@app.command(epilog="Example: harness partition model.tflite --stages 3 --output stages")
def partition(
    model: Annotated[str, typer.Argument(help="Anything that `harness compress` takes, such as a .tflite file.")],
    stages: Annotated[int, typer.Option(min=2, max=64, help="How many stages; with --at one more than its names.")] = 2,
    by: Annotated[
        str,
        typer.Option(
            help="Where to cut: work (equal multiply-adds), time (equal times, measured) or bytes (few across)."
        ),
    ] = "work",
    at: Annotated[
        list[str] | None, typer.Option(help="Cut after the operator that writes this tensor; repeat for several.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="The variant to cut; default: the float one, or a .tflite as it is.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the stages and their cards.")] = Path(),
    device: Annotated[
        str | None,
        typer.Option(help="Measure the stages on it and place them: a serial, virtual or host."),
    ] = None,
    delegate: Annotated[list[str] | None, typer.Option(help="With --device: what to place on; repeat.")] = None,
    most: Annotated[
        int, typer.Option("--max-stages", "--most", min=2, max=8, help="With --device: most stages of a pipeline.")
    ] = 3,
    preset: Annotated[str, typer.Option(help="With --device: quick, standard or strict.")] = "quick",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="With --device: how long each way is run.")] = 5.0,
    results: ResultsOption = None,
    as_json: bool = JsonOption,
) -> None:
    """Cut a model into stages and run the chain on this host: it must give what the whole gives, bit for bit.

    With --device each stage is a piece that is measured on every delegate; the best chain and pipelines of such pieces
    are then predicted and really run, next to the whole model and copies of it.
    """
    from harness.partition.graph import read_partitionable
    from harness.partition.partition import partition as cut

    require_choice("--by", by, BALANCES)
    whole = _variant(model, recipe)
    graph = read_partitionable(whole.path.read_bytes(), name=f"{model} ({whole.name})")
    made = cut(whole, graph, _cuts(whole, graph, stages, by, at or [], device), output)
    if not as_json:
        _print(made)
    found = None
    if device:
        options = {"delegates": delegate, "preset": preset} if delegate else {"preset": preset}
        found = _experiment(made, graph, device, most, options, seconds, results)
    if as_json:
        print_json(_as_json(made) | ({"experiment": to_json_value(found.as_dict())} if found else {}))
    elif found:
        _print_experiment(found)
    if not made.exact:
        raise typer.Exit(ExitCode.CELL_FAILED)


def _variant(model: str, recipe: str | None) -> Variant:
    from harness.compression.make import make_variant
    from harness.compression.recipes import find_recipe
    from harness.spec.model import find_model

    default = "as-is" if model.endswith(".tflite") else "fp32"
    with watch() as watcher:
        return make_variant(find_model(model), find_recipe(recipe or default), cache=cache_folder(), observer=watcher)


def _cuts(whole: Variant, graph: Graph, stages: int, by: str, at: list[str], device: str | None) -> tuple[int, ...]:
    from harness.devices.host import HOST_SERIAL
    from harness.partition.cuts import balanced_cuts, named_cuts, narrow_cuts
    from harness.partition.graph import estimate_work

    if at:
        return named_cuts(graph, at)
    if by == "bytes":
        return narrow_cuts(graph, stages)
    if by == "work":
        return balanced_cuts(graph, estimate_work(graph), stages)
    from harness.partition.costs import measure_steps

    return balanced_cuts(graph, measure_steps(whole, graph, device or HOST_SERIAL), stages)


def _as_json(made: Partition) -> dict[str, object]:
    return {
        "whole": made.whole.card.model_dump(mode="json"),
        "cuts": made.cuts,
        "cut_after": made.cut_after,
        "exact": made.exact,
        "differences": made.differences,
        "stages": [
            {
                "file": str(stage.variant.path),
                "steps": stage.steps,
                "taken_bytes": stage.taken_bytes,
                "card": stage.variant.card.model_dump(mode="json"),
            }
            for stage in made.stages
        ],
    }


def _print(made: Partition) -> None:
    from harness.report.terminal.partition import stage_table

    console().print(stage_table(made))
    for stage in made.stages:
        console().print(f"{stage.variant.name}: {stage.variant.path}", soft_wrap=True, markup=False)
    for kernels, difference in made.differences.items():
        verdict = f"the chain differs from the whole: {difference}" if difference else "every bit of the whole"
        error_console().print(f"{kernels}: {verdict}", markup=False)


def _experiment(
    made: Partition,
    graph: Graph,
    device: str,
    stages: int,
    options: dict[str, Any],
    seconds: float,
    results: str | None,
) -> Experiment:
    from harness.partition.experiment import experiment
    from harness.spec.sweep import load_sweep_spec
    from harness.store.store import Store

    measurement = {"accuracy_samples": 0, "memory_invocations": 0, "op_profile_invocations": 0}
    spec = load_sweep_spec(None, {**options, "measurement": measurement})
    folder = made.stages[0].variant.path.parent
    with Store.open(results or default_results()) as store, watch() as watcher:
        return experiment(
            made, graph, spec, device, stages=stages, seconds=seconds, folder=folder, store=store, observer=watcher
        )


def _print_experiment(found: Experiment) -> None:
    from harness.report.terminal.partition import disturbances, outcome_table, piece_table, remarks, verdict

    console().print(piece_table(found))
    for reason in (*found.measured.reasons, *disturbances(found.measured)):
        error_console().print(reason, markup=False, soft_wrap=True)
    console().print(outcome_table(found.outcomes))
    for remark in remarks(found.outcomes):
        error_console().print(remark, markup=False, soft_wrap=True)
    console().print(verdict(found.outcomes), markup=False, soft_wrap=True)
