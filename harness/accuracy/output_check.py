"""Whether a delegate computes what the host computes from the same file and the same inputs (promise H14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.accuracy.dataset import FloatArray
from harness.accuracy.metrics import cosines, max_abs_error, same_label_hits
from harness.accuracy.outcome import OutputCheck
from harness.compression.variant import VariantCard


@dataclass(frozen=True)
class Limits:
    """How far outputs may be from the host's: errors are relative to the largest number of the reference."""

    cosine_min: float
    max_relative_error: float
    label_agreement_min: float


FLOAT_LIMITS = Limits(cosine_min=0.99, max_relative_error=0.05, label_agreement_min=0.95)
"""A GPU that computes in 16 bits was seen 0.0058 away in class probabilities; garbage is further by far."""

QUANTIZED_LIMITS = Limits(cosine_min=0.95, max_relative_error=0.20, label_agreement_min=0.90)
"""Correct integer kernels were seen to differ by 9 of 256 steps in an output, rounding in other places."""

_QUANTIZED_TYPES = ("int4", "int8", "uint8", "int16")


def limits_for(card: VariantCard) -> Limits:
    """Return the limits for a variant by the types of its weights and of its inputs and outputs."""
    types = {*card.weight_types, *(tensor.type for tensor in (*card.inputs, *card.outputs))}
    return QUANTIZED_LIMITS if types & set(_QUANTIZED_TYPES) else FLOAT_LIMITS


def check_outputs(outputs: Sequence[FloatArray], reference: Sequence[FloatArray], limits: Limits) -> OutputCheck:
    """Compare all outputs, sample by sample; the worst output tensor decides."""
    pairs = list(zip(outputs, reference, strict=True))
    cosine_min = min(float(cosines(output, expected).min()) for output, expected in pairs)
    errors = [max_abs_error(output, expected) for output, expected in pairs]
    sizes = [float(np.abs(expected).max(initial=0.0)) for _, expected in pairs]
    relative = max(error / size if size else error for error, size in zip(errors, sizes, strict=True))
    agreement = label_agreement(outputs[0], reference[0])
    all_zero = all(not output.any() and expected.any() for output, expected in pairs)
    not_finite = not all(np.isfinite(output).all() for output, _ in pairs)
    near = cosine_min >= limits.cosine_min and relative <= limits.max_relative_error
    agreed = agreement is None or agreement >= limits.label_agreement_min
    return OutputCheck(
        samples=len(outputs[0]),
        cosine_min=cosine_min,
        max_abs_error=max(errors),
        label_agreement=agreement,
        all_zero=all_zero,
        not_finite=not_finite,
        passed=near and agreed and not all_zero and not not_finite,
        limits=(
            f"cosine of every sample at least {limits.cosine_min}, largest error at most "
            f"{limits.max_relative_error:.0%} of the largest output, same label for {limits.label_agreement_min:.0%}"
        ),
    )


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
