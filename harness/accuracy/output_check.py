"""Whether a delegate computes what the host computes from the same file and the same inputs (promise H14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.outcome import OutputCheck, Proportion
from harness.datasets.labelled import class_scores
from harness.spec.limits import Limits, OutputLimits
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import VariantCard

SHARE = 0.99
"""The share of samples that must be near. Not all: where a model wavers between two classes, correct kernels that round
in other places can tip one sample in hundreds over. With fewer than a hundred samples the worst one decides."""


_QUANTIZED_TYPES = ("int4", "int8", "uint8", "int16")


def limits_for(card: VariantCard, limits: OutputLimits) -> Limits:
    """Return the limits for a variant by the types of its weights and of its inputs and outputs."""
    types = {*card.weight_types, *(tensor.type for tensor in (*card.inputs, *card.outputs))}
    return limits.quantized if types & set(_QUANTIZED_TYPES) else limits.floating


def check_outputs(
    outputs: Sequence[FloatArray],
    reference: Sequence[FloatArray],
    limits: Limits,
    *,
    real_samples: bool,
    scored: int = 0,
) -> OutputCheck:
    """Compare all outputs, sample by sample; the worst output tensor decides. Labels are those of the scored one."""
    pairs = list(zip(outputs, reference, strict=True))
    samples = len(outputs[0])
    answers, expected_answers = pairs[scored]
    if real_samples:
        answers, expected_answers = class_scores(answers, expected_answers), class_scores(expected_answers)
    agreement = label_agreement(answers, expected_answers)
    all_zero = all(not (output != 0).any() and expected.any() for output, expected in pairs)
    not_finite = not all(np.isfinite(output).all() for output, _ in pairs)
    near = all(_near(output, expected, limits) for output, expected in pairs)
    # One sample may always differ: a handful of samples cannot show a share of 95 %.
    tolerated = max(1, int(samples * (1 - limits.label_agreement_min)))
    agreed = agreement is None or not real_samples or round(samples * (1 - agreement)) <= tolerated
    return OutputCheck(
        samples=samples,
        cosine_min=min(float(cosines(output, expected).min()) for output, expected in pairs),
        max_abs_error=max(float(max_abs_errors(output, expected).max()) for output, expected in pairs),
        label_agreement=agreement,
        all_zero=all_zero,
        not_finite=not_finite,
        passed=near and agreed and not all_zero and not not_finite,
        limits=(
            f"{SHARE:.0%} of samples with a cosine of at least {limits.cosine_min} and an error of at most "
            f"{limits.max_relative_error:.0%} of the largest output"
            + (f", same label for {limits.label_agreement_min:.0%}" if real_samples else "")
        ),
    )


def _near(output: FloatArray, expected: FloatArray, limits: Limits) -> bool:
    cosine = np.quantile(cosines(output, expected), 1 - SHARE, method="lower")
    error = np.quantile(max_abs_errors(output, expected), SHARE, method="higher")
    size = float(np.abs(expected).max(initial=0.0)) or 1.0
    return bool(cosine >= limits.cosine_min and error <= limits.max_relative_error * size)


def label_agreement(output: FloatArray, reference: FloatArray) -> float | None:
    """Return the share of samples with the same largest class; None if outputs are no class scores."""
    is_scores = output.ndim == 2 and output.shape[1] > 1  # noqa: PLR2004 - (samples, classes)
    return same_label_hits(output, reference) / len(output) if is_scores else None


def describe_failed_check(check: OutputCheck) -> str:
    """Return one sentence about what is wrong with the outputs."""
    if check.not_finite:
        return "The delegate's outputs hold NaN or infinity."
    if check.all_zero:
        return "The delegate's outputs are all zero."
    agreement = "" if check.label_agreement is None else f", same label for {check.label_agreement:.1%}"
    return (
        f"The delegate's outputs differ from the host's of the same file: smallest cosine {check.cosine_min:.3f}, "
        f"largest error {check.max_abs_error:.3g}{agreement}."
    )


CONFIDENCE = 0.95
_MOST_DB = 120.0


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
    """Return each sample's cosine between two outputs; 1 if both are zero, 0 if one is or any is not finite."""
    a, b = _flat(outputs), _flat(reference)
    finite = np.asarray(np.isfinite(np.hstack([a, b])).all(axis=1))
    a, b = np.where(finite[:, None], a, 0.0), np.where(finite[:, None], b, 0.0)
    lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths_a * lengths_b
    values = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product > 0)
    both_zero = finite & (lengths_a == 0) & (lengths_b == 0)
    return np.where(both_zero, 1.0, np.clip(values, -1.0, 1.0))


def max_abs_errors(outputs: FloatArray, reference: FloatArray) -> NDArray[np.float64]:
    """Return each sample's largest difference of any number; infinite if one is not finite."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        worst = np.abs(_flat(outputs) - _flat(reference)).max(axis=1, initial=0.0)
    return np.where(np.isfinite(worst), worst, np.inf)


def signal_to_noise_db(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the ratio of powers in decibels, between -120 and 120; -120 if `found` is not finite."""
    signal = np.square(exact.astype(np.float64)).sum()
    noise = np.square(found.astype(np.float64) - exact.astype(np.float64)).sum()
    return float(decibels(np.array([signal]), np.array([noise]))[0])


def decibels(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `10 log10(signal / noise)` of powers, within -120 and 120.

    120 if there is no noise; -120 if there is noise alone, or noise that is not finite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10 * np.log10(signal / noise)
    known = np.where(noise == 0, _MOST_DB, np.where(np.isfinite(noise), found, -_MOST_DB))
    return np.clip(known, -_MOST_DB, _MOST_DB)


def _flat(array: FloatArray) -> NDArray[np.float64]:
    """Return one row per sample, in a type in which no product of two float32 overflows."""
    with np.errstate(invalid="ignore"):  # garbage may hold signalling NaNs
        return array.reshape(len(array), int(np.prod(array.shape[1:]))).astype(np.float64)
