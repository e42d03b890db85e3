"""The settings that all techniques share which train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.compression.calibration import CalibrationRequest
from harness.compression.registry import TechniqueSettings

_SAMPLES = 32
"""More improve nothing that was seen."""


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


class UntrainedSettings(TrainingSettings):
    """Settings that also change weights without training: with `epochs = 0`, on a Keras model's converted graph too."""

    fit: Literal["weights", "inputs"] = "weights"
    """Without training, choose by the weights alone; or by what they are multiplied with on calibration data, if the
    model has any, and let the others make up for the error."""

    def works_on_graph(self) -> bool:
        """Return True if nothing is trained."""
        return self.epochs == 0

    def calibration_request(self) -> CalibrationRequest | None:
        """Return which data weights are fitted to, if there is any."""
        return CalibrationRequest("data", _SAMPLES, is_optional=True) if self.fits_inputs else None

    @property
    def fits_inputs(self) -> bool:
        """Return True if the inputs of the weights count."""
        return self.epochs == 0 and self.fit == "inputs"
