"""Distillation: a smaller network learns from the model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.compression.recipe_state import RecipeState
from harness.compression.registry import technique
from harness.compression.training.settings import TrainingSettings
from harness.errors import CompressionError, Failure, FailureClass
from harness.tflite.library_types import KerasModel

_DENSE_ONLY = "the student is a new network, so what was done to the model's weights would be lost"


class DistillationSettings(TrainingSettings):
    """Who the student is, and how much it listens. `teacher_share = 0` trains the student alone, to compare."""

    epochs: int = Field(default=10, ge=1, le=10_000)
    learning_rate: float = Field(default=4e-3, gt=0, le=10)
    teacher_share: float = Field(default=0.9, ge=0, le=1)
    width: float = Field(default=0.5, gt=0, le=1)
    """The student is the model with this many times its channels, freshly initialised."""
    student: str | None = None
    """A Keras file, next to the model's TOML file, to train instead."""
    hints: tuple[str, ...] = ()
    """Names of layers, in both networks, whose attention maps are imitated too."""
    hint_weight: float = Field(default=1.0, gt=0, le=1000)


@technique(
    "distillation",
    DistillationSettings,
    refused_after=dict.fromkeys(
        ("pruning", "clustering", "low-rank", "channel-pruning", "quantization-aware-training", "distillation"),
        _DENSE_ONLY,
    ),
)
def distil(work: RecipeState, settings: DistillationSettings) -> None:
    """Train a smaller network on the model's own answers as well as the labels."""
    from harness.compression.training.fit import Plan, train
    from harness.compression.training.learner import Lesson

    teacher = work.keras_model()
    student = _student(work, settings, teacher)
    _require_hints(work, settings, teacher, student)
    lesson = Lesson(teacher, settings.teacher_share, settings.temperature, settings.hints, settings.hint_weight)
    work.replace_keras_model(student)
    doing = "distillation" if settings.teacher_share else "training the student alone"
    train(work, settings, Plan(doing, {}, {}, lesson=lesson))
    work.report(student_parameters=int(student.count_params()), teacher_parameters=int(teacher.count_params()))


def _student(work: RecipeState, settings: DistillationSettings, teacher: KerasModel) -> KerasModel:
    if settings.student is None:
        from harness.compression.channels import scaled_width

        return scaled_width(teacher, settings.width, seed=settings.seed)
    from harness.compression.sources.keras import load_keras_file

    student = load_keras_file(work.model.locate(Path(settings.student)), None)
    for ours, theirs in ((student.inputs, teacher.inputs), (student.outputs, teacher.outputs)):
        if [tensor.shape[1:] for tensor in ours] != [tensor.shape[1:] for tensor in theirs]:
            raise _problem(
                f"The student {settings.student} goes from {student.input_shape} to {student.output_shape}, "
                f"its teacher from {teacher.input_shape} to {teacher.output_shape}: they must agree."
            )
    return student


def _require_hints(work: RecipeState, settings: DistillationSettings, teacher: KerasModel, student: KerasModel) -> None:
    for network, who in ((teacher, "teacher"), (student, "student")):
        names = {layer.name for layer in network.layers}
        missing = [name for name in settings.hints if name not in names]
        if missing:
            raise _problem(f"{work.model.name}: the {who} has no layer {', '.join(missing)}, which hints name.")


def _problem(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
