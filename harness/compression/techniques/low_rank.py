"""Low-rank factorization: one large layer becomes two thin ones."""

from __future__ import annotations

from pydantic import Field

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import TrainingSettings
from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import KerasModel


class LowRankSettings(TrainingSettings):
    """How thin. A layer is left alone if two would cost more. Fine-tuning follows (`epochs`, 0 for none)."""

    energy: float | None = Field(default=None, gt=0, lt=1)
    """Keep this share of the squared singular values; without it and without `ratio`, 0.95."""
    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Leave at most this share of each layer's weights."""


@technique(
    "low-rank",
    LowRankSettings,
    refused_after=dict.fromkeys(
        ("pruning", "clustering"), "factors are dense, so zeros and shared values would be lost; factorize first"
    ),
)
def factorize(work: RecipeState, settings: LowRankSettings) -> None:
    """Split convolutions and dense layers into two thinner ones by singular value decomposition."""
    from harness.compression.training.factorization import factorized
    from harness.compression.training.fit import Plan, train

    network = work.keras_model()
    smaller, ranks = factorized(network, energy=settings.energy, ratio=settings.ratio)
    if not ranks:
        message = (
            f"{work.model.name} has no layer that two thinner ones could replace at a lower cost: "
            "lower energy or ratio, or leave low-rank out."
        )
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
    work.replace_keras_model(smaller)
    if settings.epochs:
        train(work, settings, Plan("fine-tuning after factorization", {}, {}))
    work.report(ranks=ranks, parameters=_size(smaller), parameters_before=_size(network))


def _size(network: KerasModel) -> int:
    return int(network.count_params())
