"""Whether a delegate computes what the host computes from the same file and the same inputs (promise H14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.accuracy.metrics import cosines, max_abs_errors, same_label_hits
from harness.accuracy.outcome import OutputCheck
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
    outputs: Sequence[FloatArray], reference: Sequence[FloatArray], limits: Limits, *, real_samples: bool
) -> OutputCheck:
    """Compare all outputs, sample by sample; the worst output tensor decides."""
    pairs = list(zip(outputs, reference, strict=True))
    samples = len(outputs[0])
    agreement = label_agreement(outputs[0], reference[0])
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
    """Return the share of samples with the same largest class; None where outputs are no class scores."""
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
