"""The settings that all techniques share which train."""

from __future__ import annotations

from pydantic import Field

from harness.compression.registry import TechniqueSettings


class TrainingSettings(TechniqueSettings):
    """How a network is trained within a step. `epochs = 0` leaves training out."""

    epochs: int = Field(default=3, ge=0, le=10_000)
    batch: int = Field(default=128, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """Where the cosine schedule starts; it ends at 0."""
    patience: int = Field(default=0, ge=0)
    """Stop when validation has not improved for this many epochs, and take the best; 0 trains all epochs."""
    training_images: int | None = Field(default=None, ge=1)
    """Train on this many images, chosen at random; all without it."""
    teacher_share: float = Field(default=0.0, ge=0, le=1)
    """How much the float model's word counts against the labels: distillation within any step."""
    temperature: float = Field(default=4.0, gt=0, le=100)
    seed: int = Field(default=1, ge=0)

    def needs_training_data(self) -> bool:
        """Return True if these settings train at all."""
        return self.epochs > 0
