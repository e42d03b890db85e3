"""Embeddings: vectors whose directions are compared with one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.output_check import cosines, proportion
from harness.errors import UsageError
from harness.evaluation.intervals import mean_of
from harness.evaluation.task import Labels, Measure, Outputs, TaskComparison, task
from harness.tflite.tensors import FloatArray

FEWEST = 3
"""Samples from which a nearest neighbour is a choice."""


@task("embedding")
def embedding(found: Outputs, floats: Outputs, labels: Labels | None) -> TaskComparison:
    """Vectors: their cosine to the float model's, and whether each sample keeps its nearest neighbour."""
    measures = [
        measure for name, exact in floats.items() if exact[0].size > 1 for measure in _of(name, found[name], exact)
    ]
    if not measures:
        raise UsageError("No output holds more than one number per sample, so none is a vector.", "Use --task tensors.")
    return TaskComparison(tuple(measures))


def _of(name: str, found: FloatArray, exact: FloatArray) -> list[Measure]:
    alike = cosines(found, exact)
    mean = mean_of(alike)
    measures = [
        Measure("cosine", "", mean.value, mean.low, mean.high, name),
        Measure("smallest cosine", "", float(alike.min()), output=name),
    ]
    if len(exact) >= FEWEST:
        same = proportion(int((nearest(found) == nearest(exact)).sum()), len(exact))
        measures.append(Measure("same neighbour", "%", 100 * same.value, 100 * same.low, 100 * same.high, name))
    return measures


def nearest(vectors: FloatArray) -> NDArray[np.int64]:
    """Return which other sample's vector has the largest cosine to each sample's; what is not finite counts as zero."""
    flat = np.nan_to_num(vectors.reshape(len(vectors), -1).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    units = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    alike = units @ units.T
    np.fill_diagonal(alike, -np.inf)
    return np.asarray(alike.argmax(axis=1), np.int64)
