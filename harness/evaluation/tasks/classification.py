"""Class scores: the first output holds one score per class."""

from __future__ import annotations

import numpy as np

from harness.accuracy.output_check import cosines, proportion
from harness.errors import UsageError
from harness.evaluation.fidelity import centred_logits, compare_fidelity, divergences, probabilities
from harness.evaluation.intervals import mean_of
from harness.evaluation.task import Labels, Measure, Outputs, TaskComparison, task


@task("classification")
def classification(found: Outputs, floats: Outputs, labels: Labels | None) -> TaskComparison:
    """One score per class in the first output; with labels also what is right, and whether that is noise."""
    scores, float_scores = next(iter(found.values())), next(iter(floats.values()))
    if scores.ndim != 2 or scores.shape[1] < 2:  # noqa: PLR2004 - (samples, classes)
        raise UsageError(
            f"The first output has the shape {scores.shape[1:]} per sample, which is not one score per class.",
            "Name another task: --task tensors compares any outputs.",
        )
    new, old = probabilities(scores), probabilities(float_scores)
    same = proportion(int((new.argmax(axis=1) == old.argmax(axis=1)).sum()), len(new))
    divergence = mean_of(divergences(new, old))
    cosine = mean_of(np.asarray(cosines(centred_logits(new), centred_logits(old))))
    measures = (
        Measure("same class", "%", 100 * same.value, 100 * same.low, 100 * same.high),
        Measure("KL", "nats", divergence.value, divergence.low, divergence.high),
        Measure("logit cosine", "", cosine.value, cosine.low, cosine.high),
    )
    return TaskComparison(measures, None if labels is None else compare_fidelity(scores, float_scores, labels))
