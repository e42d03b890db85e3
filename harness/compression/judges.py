"""Who says whether a quantized graph is good enough: labels, the float model's answers, or its outputs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.compression.calibration import in_type
from harness.compression.graph.fidelity import SAMPLES, output_snr_db
from harness.datasets.labelled import choose_samples, class_scores, fit_dataset, load_dataset, scored_output
from harness.datasets.training import LabelledImages, as_input, load_training_data
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import KerasDataset, ModelSpec, TfdsDataset
from harness.tflite.flatbuffer import read_graph
from harness.tflite.interpreter import interpret

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets
    from harness.compression.recipe_state import RecipeState

BUDGET_SAMPLES = 3000
"""Labelled samples that decide whether an accuracy budget is kept."""
CONFIDENCE_QUANTILE = 1.6449
"""One-sided 95 % of the normal distribution."""

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one graph."""

    within: bool
    """True if the budget is kept."""
    loss: float
    """By how much graphs are compared where no one keeps the budget; the smaller, the better."""
    words: str
    facts: Mapping[str, float]


class Judge(Protocol):
    """Says whether a graph keeps a budget."""

    @property
    def judged_on(self) -> str:
        """What the verdicts rest on."""
        ...

    def verdict(self, graph: bytes) -> Judgement:
        """Judge a graph with float inputs and outputs."""
        ...


@dataclass(frozen=True)
class DropJudge:
    """Keeps the loss in top-1 against the float model within a number of points, by its upper bound."""

    max_drop_points: float
    inputs: Array
    """(samples, ...) as the float graph takes them."""
    labels: NDArray[np.int64]
    reference: Array
    """(samples, classes): what the untouched float model answers."""
    scored: int = 0
    """Position of the output that the labels are for."""
    judged_on: str = "labelled samples"

    def verdict(self, graph: bytes) -> Judgement:
        """Compare a graph's answers with the float model's."""
        drop = paired_drop(run_graph(graph, self.inputs, self.scored), self.reference, self.labels)
        facts = {
            "max_drop_points": self.max_drop_points,
            "drop_points": round(drop.points, 3),
            "drop_upper_points": round(drop.upper_points, 3),
        }
        within = drop.upper_points <= self.max_drop_points
        return Judgement(within, drop.upper_points, f"{drop.points:+.2f} points lost", facts)


@dataclass(frozen=True)
class SnrJudge:
    """Keeps the signal to noise of every output above a limit."""

    min_snr_db: float
    floats: bytes
    samples: SampleSets

    @property
    def judged_on(self) -> str:
        """How many samples the outputs are compared on."""
        return f"{sum(min(SAMPLES, len(sets)) for sets in self.samples.values())} calibration samples"

    def verdict(self, graph: bytes) -> Judgement:
        """Compare a graph's outputs with the float model's."""
        worst_db = min(output_snr_db(self.floats, graph, self.samples), default=math.inf)
        facts = {"min_snr_db": self.min_snr_db, "worst_output_snr_db": round(worst_db, 1)}
        return Judgement(worst_db >= self.min_snr_db, -worst_db, f"{worst_db:.1f} dB", facts)


@dataclass(frozen=True)
class Drop:
    """How many points of top-1 per variant loses against the float model on the same samples."""

    points: float
    upper_points: float
    """One-sided 95 % bound: the true drop is hardly larger."""


def drop_judge(work: RecipeState, max_drop_points: float, samples: SampleSets) -> DropJudge:
    """Return who judges by held-back training images, else by the test images, else by the float model's own answers.

    An answer that differs from the float model's may have been right before, so the share of those is the most that
    can be lost. Training images that cannot be downloaded are no obstacle if there are test images. Raises
    `CompressionError` for a model without labels whose output is no answer among classes.
    """
    reference = work.float_graph()
    facts = read_graph(reference, name=work.model.name)
    scored = scored_output(work.model, facts)
    held_back = _held_back(work.model, facts.inputs[0].shape[1:])
    if held_back is not None:
        count = min(BUDGET_SAMPLES, len(held_back))
        inputs, labels = as_input(held_back.images[:count], work.model.preprocessing), held_back.labels[:count]
        source = "held-back training images"
    elif (dataset := load_dataset(work.model)) is not None:
        chosen = choose_samples(fit_dataset(dataset, work.model, facts), BUDGET_SAMPLES)
        assert chosen.labels is not None  # noqa: S101 - chosen from a data set
        inputs, labels, scored = chosen.inputs[0], chosen.labels, chosen.scored
        source = "test images, which also serve for the final accuracy: it is a little too kind"
    else:
        inputs = _single_inputs(work, samples)
        labels = None
        source = "calibration samples, by the answers of the float model: it has no labels"
    answers = run_graph(reference, inputs, scored)
    if labels is None:
        if answers.ndim != 2 or answers.shape[1] < 2:  # noqa: PLR2004 - (samples, classes)
            raise _unlabelled(work, "its output is no answer among classes")
        labels = answers.argmax(1)
    return DropJudge(max_drop_points, inputs, labels, answers, scored, f"{len(inputs)} {source}")


def _held_back(model: ModelSpec, input_shape: tuple[int, ...]) -> LabelledImages | None:
    """Return images that are never trained on; None if there are none, or test images instead of a failed download."""
    if model.training is None:
        return None
    try:
        return load_training_data(model, input_shape).validation
    except CompressionError:
        if isinstance(model.training.data, KerasDataset | TfdsDataset) and load_dataset(model) is not None:
            return None
        raise


def _single_inputs(work: RecipeState, samples: SampleSets) -> Array:
    sets = [sample for found in samples.values() for sample in found]
    if not sets or len(samples) > 1 or len(sets[0]) > 1:
        raise _unlabelled(work, "it has several inputs" if sets else "no calibration data either")
    return np.concatenate([next(iter(sample.values())) for sample in sets])


def _unlabelled(work: RecipeState, why: str) -> CompressionError:
    message = (
        f"Cannot keep max_drop_points for {work.model.name}: it has no labelled images, and {why}. "
        "Give --data with labels (test_labels, or one folder per class), or set min_snr_db in a recipe of your own."
    )
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))


def run_graph(graph: bytes, inputs: Array, scored: int = 0) -> Array:
    """Return the scored output of a graph, (samples, ...); numbers become what its input takes."""
    (tensor,) = read_graph(graph, name="the graph").inputs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.tflite")
        path.write_bytes(graph)
        return np.asarray(interpret(str(path), [in_type(inputs, np.dtype(tensor.type).type)], 1)[scored], np.float64)


def paired_drop(scores: Array, reference: Array, labels: NDArray[np.int64]) -> Drop:
    """Return the loss in top-1 between two answers to the same samples, with its upper bound.

    Only samples that one has right and the other wrong count. The bound is Wald's on the difference of two paired
    proportions, half a sample added to each cell (Agresti and Min 2005, "Simple Improved Confidence Intervals for
    Comparing Matched Proportions").
    """
    floats = reference.astype(np.float32)
    right = class_scores(scores.astype(np.float32), floats).argmax(1) == labels
    reference_right = class_scores(floats).argmax(1) == labels
    lost, gained = int((reference_right & ~right).sum()), int((right & ~reference_right).sum())
    total = len(labels) + 2
    difference = (lost - gained) / total
    spread = math.sqrt(max(0.0, (lost + gained + 1) / total - difference**2) / total)
    return Drop(100 * (lost - gained) / len(labels), 100 * (difference + CONFIDENCE_QUANTILE * spread))
