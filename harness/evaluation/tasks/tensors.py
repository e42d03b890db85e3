"""Any outputs: landmarks, spectra, masks, boxes before they are decoded."""

from __future__ import annotations

import numpy as np

from harness.accuracy.output_check import decibels, max_abs_errors
from harness.evaluation.intervals import Floats, sum_statistic
from harness.evaluation.task import Labels, Measure, Outputs, TaskComparison, task
from harness.tflite.tensors import FloatArray


@task("tensors")
def tensors(found: Outputs, floats: Outputs, labels: Labels | None) -> TaskComparison:
    """Any numbers: signal to noise, largest error and correlation of each output."""
    return TaskComparison(tuple(measure for name, exact in floats.items() for measure in _of(name, found[name], exact)))


def _of(name: str, found: FloatArray, exact: FloatArray) -> list[Measure]:
    new, old = (array.reshape(len(array), -1).astype(np.float64) for array in (found, exact))
    with np.errstate(invalid="ignore", over="ignore"):  # outputs that are not finite are reported as such
        powers = np.column_stack([np.square(old).sum(axis=1), np.square(new - old).sum(axis=1)])
        ratio = sum_statistic(powers, lambda sums: decibels(sums[:, 0], sums[:, 1]))
        alike = sum_statistic(_moments(new - old.mean(), old - old.mean()), _correlation)
    return [
        Measure("signal to noise", "dB", ratio.value, ratio.low, ratio.high, name),
        Measure("largest error", "", float(max_abs_errors(found, exact).max()), output=name),
        Measure("correlation", "", alike.value, alike.low, alike.high, name),
    ]


def _moments(new: Floats, old: Floats) -> Floats:
    """Return what a correlation is made of, a row per sample; the origin lies near the mean so that little cancels."""
    counts = np.full(len(old), float(old.shape[1]))
    sums = [new, old, np.square(new), np.square(old), new * old]
    return np.column_stack([counts, *(part.sum(axis=1) for part in sums)])


def _correlation(sums: Floats) -> Floats:
    """Return Pearson's correlation; 0 if one side is constant or not finite."""
    count, new, old, new_squares, old_squares, products = sums.T
    shared = products - new * old / count
    spread = np.sqrt(np.maximum(new_squares - new**2 / count, 0) * np.maximum(old_squares - old**2 / count, 0))
    found = np.divide(shared, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(np.clip(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0))
