"""How far a variant may be from the float model, by the kind of variant (promise H23)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.tflite.variant import VariantCard


class VariantKind(StrEnum):
    """What a recipe did to the numbers of a model; the coarsest step counts."""

    FLOAT = "float"
    FP16 = "fp16"
    DYNAMIC = "dynamic int8"
    INT16X8 = "int16x8"
    INT8 = "int8"
    INT4 = "int4"
    CHANGED = "changed weights"
    """Pruned, clustered, factorized, trained or distilled: another model, which answers alike."""


@dataclass(frozen=True)
class FidelityLimits:
    """The least that each figure of each output must reach; None: this figure decides nothing."""

    snr_db: float | None
    cosine: float | None
    range_kept: float
    """Judged only if the float output varies by a good part of its size."""
    agreement: float
    """On real or calibration inputs, of outputs that are answers: classes, one sigmoid, whole numbers."""

    def __str__(self) -> str:
        parts = [
            "" if self.snr_db is None else f"signal to noise at least {self.snr_db:g} dB",
            "" if self.cosine is None else f"cosine at least {self.cosine:g}",
            f"{self.range_kept:.0%} of the range",
            f"{self.agreement:.0%} equal answers",
        ]
        return ", ".join(filter(None, parts))


LIMITS: Mapping[VariantKind, FidelityLimits] = {
    # The same numbers on the same kernels: 120 dB, or 100 if a delegate adds in another order.
    VariantKind.FLOAT: FidelityLimits(50.0, None, 0.99, 0.99),
    # Half precision keeps 11 bits: 41 (EfficientNet-Lite0 on noise; 55 on photos) to 90 dB on seven networks.
    VariantKind.FP16: FidelityLimits(30.0, None, 0.98, 0.98),
    # 21 (EfficientNet-Lite0) to 56 dB on seven networks; each input has its own ranges, so nothing is clipped.
    VariantKind.DYNAMIC: FidelityLimits(10.0, None, 0.75, 0.80),
    # 30 to 48 dB with right ranges; 0.3 and 1.1 dB with clipped ranges and overflowing biases.
    VariantKind.INT16X8: FidelityLimits(10.0, None, 0.75, 0.80),
    # 14 (one scale per tensor) to 39 dB, 98 % of the range; with clipped ranges or overflowing biases 0.1 to 6 dB,
    # 1 to 48 % of the range.
    VariantKind.INT8: FidelityLimits(8.0, None, 0.75, 0.80),
    # 9.8 dB and 90.7 % equal answers on fashion-dscnn; the bits lost are 24 dB.
    VariantKind.INT4: FidelityLimits(3.0, None, 0.60, 0.60),
    # 89.8 (half of the weights gone, untrained) to 98.3 % equal answers for the 18 shipped recipes of this kind.
    VariantKind.CHANGED: FidelityLimits(None, 0.5, 0.50, 0.75),
}

MOST_DROP_POINTS = 5.0
"""Changed weights that lose no more top-1 than this have kept the accuracy, however many answers are others."""

_KEEPS_NUMBERS = frozenset({"sparse-storage"})
_QUANTIZATION = "quantization"
_BY_ACTIVATIONS = {"float": VariantKind.DYNAMIC, "int16": VariantKind.INT16X8, "int8": VariantKind.INT8}


def kind_of(card: VariantCard) -> VariantKind:
    """Return the kind of a variant by the steps of its recipe; a technique that is not known here changes weights."""
    names = {str(step["technique"]) for step in card.steps}
    if names - _KEEPS_NUMBERS - {_QUANTIZATION}:
        return VariantKind.CHANGED
    formats: list[Any] = []
    for step in card.steps:
        settings: Any = step.get("settings") or {}
        if step["technique"] == _QUANTIZATION:
            formats += [settings, *settings.get("layers", ())]
    kinds = [_kind_of_format(one) for one in formats]
    return max(kinds, key=list(VariantKind).index, default=VariantKind.FLOAT)


def _kind_of_format(settings: Mapping[str, Any]) -> VariantKind:
    weights = settings.get("weights", "int8")
    if weights in ("int3", "int4"):
        return VariantKind.INT4
    if weights == "int8":
        return _BY_ACTIVATIONS[settings.get("activations", "float")]
    return VariantKind.FP16 if weights == "fp16" else VariantKind.FLOAT
