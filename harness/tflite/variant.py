"""A variant: the `.tflite` that a recipe makes of a model, with the card that says how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harness.errors import Failure, FailureClass


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


class FidelityOutcome(StrEnum):
    """What the comparison of a variant with the float model came to (promise H23)."""

    KEPT = "kept"
    LOST = "lost"
    """An output moved beyond the limits of this kind of variant."""
    NO_FLOAT_MODEL = "no_float_model"
    """There is nothing to compare with, which speaks neither for nor against the variant."""
    FAILED = "failed"
    """This host could not run one of the two, so the variant gets no rank."""


class OutputFidelity(BaseModel):
    """One output of a variant next to the float model's; None for figures that such an output does not have."""

    model_config = ConfigDict(frozen=True)

    name: str
    snr_db: float | None = None
    """Power of the float output over that of the difference, -120 to 120 dB."""
    cosine: float | None = None
    """Between all values of both, of all samples."""
    range_kept: float | None = None
    """Share of the interval from the float output's smallest to its largest value that the variant's spans too."""
    agreement: float | None = None
    """Share of equal answers: class, side of 0.5, sign or whole number; the float model's near ties count as equal."""
    lost: str = ""
    """What is beyond the limits; empty if nothing is."""

    def __str__(self) -> str:
        parts = [
            "" if self.snr_db is None else f"signal to noise {self.snr_db:.1f} dB",
            "" if self.cosine is None else f"cosine {self.cosine:.4f}",
            "" if self.range_kept is None else f"{self.range_kept:.1%} of the range",
            "" if self.agreement is None else f"{self.agreement:.1%} equal answers",
            f"BEYOND ITS LIMITS: {self.lost}" if self.lost else "",
        ]
        return f"{self.name}: {', '.join(filter(None, parts)) or 'no figures'}"


class VariantFidelity(BaseModel):
    """A variant compared with the float model on this host."""

    model_config = ConfigDict(frozen=True)

    outcome: FidelityOutcome
    reason: str = ""
    """Why it is not `kept`, in one sentence."""
    inputs: str = ""
    """`real`, `calibration` or `random`."""
    samples: int = 0
    kind: str = ""
    """The kind of variant whose limits were applied."""
    limits: str = ""
    float_sha256: str = ""
    inputs_sha256: str = ""
    outputs: tuple[OutputFidelity, ...] = ()

    def __str__(self) -> str:
        if not self.outputs:
            return self.reason
        figures = "; ".join(map(str, self.outputs))
        return f"{self.outcome} on {self.samples} {self.inputs} inputs; {figures}; limits of {self.kind}: {self.limits}"

    def failure(self, variant: str) -> Failure | None:
        """Return the failure of the variant of this name; None unless it lost accuracy."""
        if self.outcome is not FidelityOutcome.LOST:
            return None
        message = f"{variant} differs from the float model on {self.samples} {self.inputs} inputs: {self.reason}."
        return Failure(FailureClass.ACCURACY_LOST, message, str(self))

    @property
    def worst(self) -> OutputFidelity:
        """Return each figure of the output that is worst in it."""

        def smallest(figure: str) -> float | None:
            return min((value for one in self.outputs if (value := getattr(one, figure)) is not None), default=None)

        return OutputFidelity(
            name="",
            snr_db=smallest("snr_db"),
            cosine=smallest("cosine"),
            range_kept=smallest("range_kept"),
            agreement=smallest("agreement"),
        )


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
    fidelity: VariantFidelity | None = None
    """How near it is to the float model; None if they were never compared."""


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
