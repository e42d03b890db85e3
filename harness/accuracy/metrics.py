"""What outputs are worth: pure functions over arrays whose first axis is the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.outcome import Proportion
from harness.tflite.tensors import FloatArray

CONFIDENCE = 0.95


def proportion(hits: int, total: int) -> Proportion:
    """Return hits / total with its 95 % Wilson score interval (Wilson 1927, as in scipy's `binomtest`)."""
    from scipy.stats import binomtest

    interval: Any = binomtest(hits, total).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return Proportion(hits / total, float(interval.low), float(interval.high))


def top_k_hits(scores: FloatArray, labels: NDArray[np.int64], k: int) -> int:
    """Return how many samples have their label among the `k` largest scores.

    Scores are (samples, classes). Of equal scores the lower class stands first; NaN stands last, so that it never hits.
    """
    clean = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-clean, axis=1, kind="stable")[:, :k]
    hit = (order == labels[:, None]) & ~np.isnan(np.take_along_axis(scores, order, axis=1))
    return int(hit.any(axis=1).sum())


def same_label_hits(scores: FloatArray, reference: FloatArray) -> int:
    """Return how many samples have the same largest class in both."""
    return top_k_hits(scores, np.argmax(reference, axis=1).astype(np.int64), 1)


def cosines(outputs: FloatArray, reference: FloatArray) -> NDArray[np.float64]:
    """Return each sample's cosine between two outputs; 1 where both are zero, 0 where one is or any is not finite."""
    a, b = _flat(outputs), _flat(reference)
    finite = np.asarray(np.isfinite(np.hstack([a, b])).all(axis=1))
    a, b = np.where(finite[:, None], a, 0.0), np.where(finite[:, None], b, 0.0)
    lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths_a * lengths_b
    values = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
    both_zero = finite & (lengths_a == 0) & (lengths_b == 0)
    return np.where(both_zero, 1.0, np.clip(values, -1.0, 1.0))


def max_abs_errors(outputs: FloatArray, reference: FloatArray) -> NDArray[np.float64]:
    """Return each sample's largest difference of any number; infinite where one is not finite."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        worst = np.abs(_flat(outputs) - _flat(reference)).max(axis=1, initial=0.0)
    return np.where(np.isfinite(worst), worst, np.inf)


def _flat(array: FloatArray) -> NDArray[np.float64]:
    """Return one row a sample, in a type in which no product of two float32 overflows."""
    with np.errstate(invalid="ignore"):  # garbage may hold signalling NaNs
        return array.reshape(len(array), int(np.prod(array.shape[1:]))).astype(np.float64)
