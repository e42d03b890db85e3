"""How a variant's answers differ from the float model's on the same labelled samples, and whether that is noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.outcome import Proportion
from harness.accuracy.output_check import cosines, proportion
from harness.tflite.tensors import FloatArray

SIGNIFICANT = 0.05
"""A difference in accuracy that chance gives more often than this is called noise."""
_Z = 1.959964
"""Of a two-sided interval of 95 %."""
_BINS = 15
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Paired:
    """Accuracy of two models on the same samples. Only samples that one alone gets right tell them apart."""

    samples: int
    lost: int
    """Right in the float model alone."""
    won: int
    """Right in the variant alone."""
    drop_points: float
    """`100 * (lost - won) / samples`: percentage points of top-1 that the variant loses; negative is a gain."""
    drop_low: float
    """Lower end of its 95 % interval."""
    drop_high: float
    p_value: float
    """McNemar's exact test: how often chance alone would part the discordant samples so unevenly."""

    @property
    def is_noise(self) -> bool:
        """Return True if the difference may well be chance."""
        return self.p_value > SIGNIFICANT


@dataclass(frozen=True)
class ClassFidelity:
    """One class of the data set."""

    label: int
    paired: Paired


@dataclass(frozen=True)
class Fidelity:
    """One variant against the float model. Scores that are no probabilities go through softmax first."""

    top1: Proportion
    float_top1: Proportion
    paired: Paired
    agreement: Proportion
    """Samples with the same class in both, right or wrong."""
    flips: tuple[int, ...]
    """Positions of the samples whose class differs, those that were lost first."""
    cosine_mean: float
    """Mean cosine of the logarithms of the probabilities, each centred: of the logits, but for a constant."""
    kl_divergence: float
    """Mean Kullback-Leibler divergence of the variant's probabilities from the float model's, nats."""
    calibration_error: float
    """Expected calibration error over 15 bins of confidence (Guo et al. 2017, eq. 3)."""
    float_calibration_error: float
    by_class: tuple[ClassFidelity, ...]


def compare_fidelity(scores: FloatArray, floats: FloatArray, labels: NDArray[np.int64]) -> Fidelity:
    """Compare scores of shape (samples, classes) with the float model's of the same samples."""
    found, reference = probabilities(scores), probabilities(floats)
    label, float_label = found.argmax(axis=1), reference.argmax(axis=1)
    right, float_right = label == labels, float_label == labels
    changed = np.flatnonzero(label != float_label)
    order = np.argsort(~(float_right & ~right)[changed], kind="stable")
    return Fidelity(
        top1=proportion(int(right.sum()), len(labels)),
        float_top1=proportion(int(float_right.sum()), len(labels)),
        paired=compare_paired(right, float_right),
        agreement=proportion(int((label == float_label).sum()), len(labels)),
        flips=tuple(int(sample) for sample in changed[order]),
        cosine_mean=float(cosines(centred_logits(found), centred_logits(reference)).mean()),
        kl_divergence=float(divergences(found, reference).mean()),
        calibration_error=calibration_error(found, labels),
        float_calibration_error=calibration_error(reference, labels),
        by_class=tuple(
            ClassFidelity(int(one), compare_paired(right[labels == one], float_right[labels == one]))
            for one in np.unique(labels)
        ),
    )


def compare_paired(right: NDArray[np.bool_], float_right: NDArray[np.bool_]) -> Paired:
    """Compare which samples two models get right.

    The test is McNemar's in its exact, binomial form (McNemar 1947); the interval is Wald's with one sample added to
    either discordant count (Bonett and Price 2012), which covers 95 % also if hardly any sample is discordant.
    """
    from scipy.stats import binomtest

    count = len(right)
    lost, won = int((float_right & ~right).sum()), int((right & ~float_right).sum())
    share_lost, share_won = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    middle = share_lost - share_won
    reach = _Z * float(np.sqrt((share_lost + share_won - middle**2) / (count + 2)))
    return Paired(
        samples=count,
        lost=lost,
        won=won,
        drop_points=100 * (lost - won) / count,
        drop_low=100 * max(middle - reach, -1.0),
        drop_high=100 * min(middle + reach, 1.0),
        p_value=float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
    )


def probabilities(scores: FloatArray) -> NDArray[np.float64]:
    """Return scores as probabilities: as they are where every row is one distribution already, else their softmax.

    What is not finite counts as the smallest score, so that it is never the answer.
    """
    exact = np.nan_to_num(scores.astype(np.float64), nan=-1e30, posinf=1e30, neginf=-1e30)
    sums = exact.sum(axis=1)
    if (exact >= 0).all() and np.abs(sums - 1).max(initial=0.0) < 0.05:  # noqa: PLR2004 - int8 outputs sum to nearly 1
        return np.asarray(exact / np.maximum(sums, _SMALLEST)[:, None])
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibration_error(found: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return how far confidence lies from accuracy on average, 0 to 1; `found` are probabilities."""
    confidence, right = found.max(axis=1), found.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    error = 0.0
    for one in range(_BINS):
        inside = bins == one
        if inside.any():
            error += inside.mean() * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return float(error)


def divergences(found: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each sample's Kullback-Leibler divergence of `found` from `reference`, both probabilities, in nats."""
    return np.asarray((reference * (_log(reference) - _log(found))).sum(axis=1))


def _log(found: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(found, _SMALLEST)))


def centred_logits(found: NDArray[np.float64]) -> FloatArray:
    """Return the logarithms of probabilities about their mean: the logits, but for a constant."""
    logits = _log(found)
    return np.asarray(logits - logits.mean(axis=1, keepdims=True), np.float32)
