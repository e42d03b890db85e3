"""A variant: the `.tflite` that a recipe makes of a model, with the card that says how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class TensorType(BaseModel):
    """Shape, type and quantization of one input or output; shape uses -1 for a dynamic axis."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: tuple[int, ...]
    type: str
    """NumPy's name: `float32`, `int8`, `uint8`, ..."""
    scale: float | None = None
    zero_point: int | None = None
    signature_name: str | None = None
    """Its name in the file's signature; None without one."""
    file_place: int | None = None
    """Its place in the file's own list, which the tool and the interpreter go by; None: where it stands here."""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.signature_name or self.name


class VariantCard(BaseModel):
    """The JSON next to a variant: lineage and what can be read off the file."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = 2
    model: str
    model_sha256: str
    recipe: str
    steps: tuple[dict[str, object], ...]
    target_runtime: str
    libraries: dict[str, str]
    """Versions of the libraries that made it, by package name."""
    calibration: str | None
    """How the calibration data was chosen, with its SHA-256; None if the recipe needs none."""
    training_data: str | None = None
    """What techniques that train learnt from; None if none trained."""
    step_facts: tuple[dict[str, Any], ...] = ()
    """What each step had to say: sparsity reached, layers left in float, seconds and memory of training, ..."""
    sha256: str
    size_bytes: int
    gzip_size_bytes: int
    operators: dict[str, int]
    """How often each operator occurs, by its schema name such as `CONV_2D`."""
    operator_versions: dict[str, int]
    """The highest version of each operator."""
    custom_operators: tuple[str, ...]
    weight_types: dict[str, int]
    """Constant bytes by tensor type, such as `{"int8": 37000, "float32": 900}`."""
    inputs: tuple[TensorType, ...]
    """In the order of the file's signature, which is the model's own; without a signature, in the file's order."""
    outputs: tuple[TensorType, ...]
    seconds: float
    """Wall time that making it took."""


@dataclass(frozen=True)
class Variant:
    """One `.tflite` file and its card."""

    path: Path
    card: VariantCard

    @property
    def name(self) -> str:
        """The recipe's name, which is what tables show."""
        return self.card.recipe

    @property
    def sha256(self) -> str:
        """Identity of the variant."""
        return self.card.sha256
