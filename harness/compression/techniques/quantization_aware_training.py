"""Quantization-aware training: weights learn to live on a grid of few bits."""

from __future__ import annotations

from typing import Literal

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import TrainingSettings


class QuantizationAwareTrainingSettings(TrainingSettings):
    """The grid to train for. A step `quantization` with the same bits then stores the weights so."""

    weight_bits: Literal[3, 4, 8] = 8
    activation_bits: Literal[8, 16, 32] = 8
    """32 leaves activations in float."""


@technique("quantization-aware-training", QuantizationAwareTrainingSettings)
def train_for_quantization(work: RecipeState, settings: QuantizationAwareTrainingSettings) -> None:
    """Train with rounded weights and activations; zeros and clusters of earlier steps are kept."""
    from harness.compression.training.fit import Plan, train
    from harness.compression.training.kernels import find_kernels
    from harness.compression.training.views import OnGrid, kept_structure

    network = work.keras_model()
    kernels = find_kernels(network)
    kept = kept_structure(work, kernels)
    views = {kernel.name: [*kept[kernel.name], OnGrid(settings.weight_bits, kernel.reduced_axes)] for kernel in kernels}
    rounded = None
    if settings.activation_bits < 32:  # noqa: PLR2004 - 32 is float
        from harness.compression.training.activations import with_rounded_activations

        rounded = with_rounded_activations(network, settings.activation_bits)
    train(work, settings, Plan("quantization-aware training", views, views, network=rounded))
