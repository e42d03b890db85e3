"""One call of `harness evaluate`: what is compared with what, on which samples, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.accuracy.reference import HostOutputs
from harness.benchmark.delegates import find_delegate
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.datasets.inputs import FIRST_DATA, gather
from harness.datasets.labelled import Dataset, Samples, fit_dataset, load_dataset
from harness.errors import UsageError
from harness.evaluation.attacks import Attacker
from harness.evaluation.changed_images import ChangedImages
from harness.evaluation.occlusion import FlippedInput, flipped_inputs
from harness.evaluation.suite import HOST, Evaluation, Suite
from harness.evaluation.task import Task, find_task
from harness.evaluation.through_delegate import ThroughDelegate, through_delegates
from harness.progress import Observer
from harness.spec.model import ModelSpec, TfliteFile, find_model
from harness.tflite.tensors import sample_shape
from harness.tflite.variant import Variant

DEFAULT_RECIPES = ("fp16", "dynamic-int8")
WITH_DATA = "int8"
"""It has to be calibrated."""
CLASSIFICATION = "classification"
SALIENCY_IMAGES = 6


@dataclass(frozen=True)
class EvaluationRequest:
    """What a person asked for."""

    model: str
    """A model as `find_model` takes it; the float side."""
    files: tuple[Path, ...] = ()
    """Ready variants."""
    recipes: tuple[str, ...] = ()
    """Variants to make; neither these nor files: the usual ones."""
    task: str | None = None
    inputs: Path | None = None
    samples: int | None = None
    suite_samples: int = 0
    """Samples of each corruption and shift; 0: none."""
    attack_samples: int = 0
    """Samples of each attack; 0: none."""
    saliency: int = 0
    """Number of differently answered images for which to show where both models look."""
    device: str | None = None
    delegates: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationResult:
    """All that was found."""

    model: ModelSpec
    task: Task
    float_variant: Variant
    data: dict[str, Samples]
    evaluations: tuple[Evaluation, ...]
    saliency: Mapping[str, tuple[FlippedInput, ...]]
    """By variant, images that it and the float model answer differently on this host; those that were lost first."""


def evaluate(asked: EvaluationRequest, *, cache: Path, observer: Observer) -> EvaluationResult:
    """Evaluate each variant on this host, then through each delegate.

    Raises `UsageError`, `CompressionError` for a variant that cannot be made, `FailureError` for one that this host
    cannot run, `MissingPrerequisiteError` or `DeviceError` for a device that cannot be used.
    """
    _require_delegates(asked)
    model = find_model(asked.model)
    dataset = None if asked.inputs else load_dataset(model)
    task = find_task(asked.task or model.evaluation.task or (CLASSIFICATION if dataset else "tensors"))
    if asked.suite_samples or asked.attack_samples:
        _require_classes(dataset, task, model)
    floats = _make(model, "as-is" if isinstance(model.source, TfliteFile) else "fp32", cache, observer)
    variants = list(_variants(asked, model, cache, observer))
    for variant in variants:
        _require_same_inputs(variant, floats)
    dataset = dataset and fit_dataset(dataset, model, floats.card)
    data = gather(model, floats.card, dataset=dataset, file=asked.inputs, count=asked.samples)
    reference = HostOutputs(cache / "reference")
    changed = ChangedImages(dataset, asked.suite_samples) if dataset and asked.suite_samples else None
    attacker = None
    if dataset and asked.attack_samples:
        observer.note(f"Attacking {floats.name}.")
        attacker = Attacker(dataset, asked.attack_samples, floats, reference)
    suite = Suite(task, data, floats, reference, observer, changed=changed, attacker=attacker)
    with _through(asked, reference) as delegates:
        found = [suite.evaluate(variant, where) for variant in variants for where in (None, *delegates)]
    saliency = {}
    for one in found if asked.saliency else ():
        if (
            one.delegate == HOST
            and dataset
            and dataset.is_pictures
            and (fidelity := one.compared[0].comparison.fidelity)
        ):
            flips = fidelity.flips[: asked.saliency]
            images = flipped_inputs(one.variant, floats, data[FIRST_DATA], flips, dataset, reference)
            saliency[one.variant.name] = tuple(images)
    return EvaluationResult(model, task, floats, data, tuple(found), saliency)


def _require_delegates(asked: EvaluationRequest) -> None:
    for delegate in asked.delegates:
        find_delegate(delegate)
    if asked.delegates and asked.device is None:
        raise UsageError("--delegate needs --device.", "Name a serial, virtual or host: --device virtual.")


def _require_same_inputs(variant: Variant, floats: Variant) -> None:
    shapes, float_shapes = (list(map(sample_shape, one.card.inputs)) for one in (variant, floats))
    if shapes != float_shapes:
        raise UsageError(
            f"{variant.name} takes inputs of the shapes {shapes} a sample, the float model {float_shapes}.",
            "Only files that take the same inputs can be compared.",
        )


def _require_classes(dataset: Dataset | None, task: Task, model: ModelSpec) -> None:
    if dataset is None or not dataset.is_pictures or task.name != CLASSIFICATION:
        raise UsageError(
            f"{model.name} has no labelled images of classes here, which bad images are made of.",
            "Leave --suite and --attack out, or give [data] in the model's TOML file.",
        )


def _variants(asked: EvaluationRequest, model: ModelSpec, cache: Path, observer: Observer) -> Iterator[Variant]:
    usual = (*DEFAULT_RECIPES, WITH_DATA) if model.data else DEFAULT_RECIPES
    for name in asked.recipes or (() if asked.files else usual):
        yield _make(model, name, cache, observer)
    for file in asked.files:
        if file.suffix != ".tflite":
            raise UsageError(f"{file} is not a .tflite file.", "Variants are .tflite files; or name recipes: --recipe.")
        ready = _make(find_model(str(file)), "as-is", cache, observer)
        yield replace(ready, card=ready.card.model_copy(update={"recipe": file.stem}))


def _make(model: ModelSpec, recipe: str, cache: Path, observer: Observer) -> Variant:
    return make_variant(model, find_recipe(recipe), cache=cache, observer=observer)


@contextmanager
def _through(asked: EvaluationRequest, reference: HostOutputs) -> Iterator[list[ThroughDelegate]]:
    if asked.device is None:
        yield []
        return
    with through_delegates(asked.device, asked.delegates or ("cpu",), reference) as delegates:
        yield delegates
