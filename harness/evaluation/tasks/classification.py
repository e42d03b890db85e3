"""Class scores: the scored output holds one score per class, or one value for two classes."""

from __future__ import annotations

import numpy as np

from harness.accuracy.output_check import cosines, proportion
from harness.datasets.labelled import class_scores
from harness.errors import UsageError
from harness.evaluation.fidelity import centred_logits, compare_fidelity, divergences, probabilities
from harness.evaluation.intervals import mean_of
from harness.evaluation.task import Labels, Measure, Outputs, TaskComparison, task


@task("classification")
def classification(found: Outputs, floats: Outputs, labels: Labels | None) -> TaskComparison:
    """One score per class in the scored output; with labels also what is right, and whether that is noise."""
    name, exact = next(iter(floats.items()))
    shape, values = found[name].shape[1:], found[name][0].size
    if max(shape, default=1) != values or (values == 1 and labels is None):
        raise UsageError(
            f"The output {name} has the shape {shape} per sample, which is not one score per class.",
            "Name another task: --task tensors compares any outputs.",
        )
    scores, float_scores = class_scores(found[name], exact), class_scores(exact)
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
