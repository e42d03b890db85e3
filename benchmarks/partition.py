"""Whether cutting a model pays, and whether that is known beforehand: `python benchmarks/partition.py [--quick]`.

One virtual phone, whose cores are this computer's and whose GPU delegate runs on them too. MobileNetV2 (random weights:
they change no time) is cut into pieces; each is measured on each delegate; the best chain and the best pipelines of two
and three stages are predicted, cut and really run at the same time, beside the whole model and copies of it. The last
sentences say whether the predictions were good enough; a computer that does other work too gives other errors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from harness.benchmark.registry import ToolRegistry
from harness.cli.progress import watch
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.partition.cuts import balanced_cuts
from harness.partition.experiment import experiment
from harness.partition.graph import estimate_work, read_partitionable
from harness.partition.partition import partition
from harness.partition.trial import Outcome
from harness.paths import cache_folder
from harness.report.terminal.partition import disturbances, outcome_table, piece_table, remarks, verdict
from harness.spec.model import find_model
from harness.spec.sweep import load_sweep_spec
from harness.store.store import Store

MOST_STAGES = 3
GOAL = 0.15
"""The largest relative error of a predicted throughput."""


def main() -> None:
    """Measure, print the tables, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="CPU alone, a smaller model, three pieces: about a minute")
    parser.add_argument("--tools", type=Path, help="folder or archive of the official tools, if none is registered")
    arguments = parser.parse_args()
    if arguments.tools:
        ToolRegistry().add(arguments.tools)
    size, pieces, delegates, seconds = (96, 3, ["cpu"], 2) if arguments.quick else (224, 8, ["cpu", "gpu"], 10)
    with tempfile.TemporaryDirectory() as name, watch() as bars:
        folder = Path(name)
        file = write_model(folder, size)
        whole = make_variant(find_model(str(file)), find_recipe("as-is"), cache=cache_folder(), observer=bars)
        graph = read_partitionable(whole.path.read_bytes(), name="MobileNetV2")
        made = partition(whole, graph, balanced_cuts(graph, estimate_work(graph), pieces), folder / "pieces")
        counts = {"accuracy_samples": 0, "memory_invocations": 0, "op_profile_invocations": 0, "init_pairs": 0}
        spec = load_sweep_spec(None, {"delegates": delegates, "measurement": counts})
        with Store.open(folder / "results") as store:
            found = experiment(
                made,
                graph,
                spec,
                "virtual",
                stages=MOST_STAGES,
                seconds=seconds,
                folder=folder,
                store=store,
                observer=bars,
            )
    console = Console(width=120)
    console.print(piece_table(found))
    console.print(outcome_table(found.outcomes))
    told = (*disturbances(found.measured), *remarks(found.outcomes), verdict(found.outcomes))
    for sentence in (*told, *conclusions(found.outcomes)):
        console.print(sentence, markup=False, highlight=False)
    figures = {
        "exact": made.exact,
        "outcomes": [outcome.as_dict() for outcome in found.outcomes],
        "pieces_us": found.measured.pieces_us,
        "pieces_processor_us": found.measured.pieces_processor_us,
        "whole_us": found.measured.whole_us,
        "whole_processor_us": found.measured.whole_processor_us,
        "crossing_us": found.crossing_us,
    }
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "partition", "figures": figures, "machine": machine}))


def conclusions(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Say whether the goal was met, and whether pipelines that were promised to win did."""
    pipelines = [outcome for outcome in outcomes if outcome.way == "pipeline"]
    errors = {name(outcome): outcome.prediction_error for outcome in pipelines}
    told = ", ".join(
        f"{way} {'not measured' if error is None else f'{100 * error:+.1f} %'}" for way, error in errors.items()
    )
    met = pipelines and all(error is not None and abs(error) <= GOAL for error in errors.values())
    yield f"The goal, predicted throughput within {100 * GOAL:.0f} %, was {'met' if met else 'MISSED'}: {told}."
    uncut = max((o.measured_per_s or 0 for o in outcomes if o.way not in ("pipeline", "chain")), default=0)
    for outcome in pipelines:
        if (outcome.predicted_per_s or 0) > uncut:
            kept = "it does" if (outcome.measured_per_s or 0) > uncut else "it does NOT"
            yield f"{name(outcome)} was promised to beat {uncut:.1f} results a second without cutting: {kept}."


def name(outcome: Outcome) -> str:
    """Return what a pipeline is called."""
    return f"{len(outcome.units)} stages on {', '.join(outcome.units)}"


def write_model(folder: Path, size: int) -> Path:
    """Convert MobileNetV2 for images of so many pixels a side."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = keras.applications.MobileNetV2(input_shape=(size, size, 3), weights=None)
    file = folder / f"mobilenet-v2-{size}.tflite"
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return file


if __name__ == "__main__":
    main()
