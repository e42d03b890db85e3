"""The labelled images of a model, and the samples of them that go through a device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.datasets.arrays import ArraysUnreadableError, class_labels, read_arrays
from harness.errors import UsageError
from harness.spec.model import ModelSpec
from harness.tflite.flatbuffer import GraphFacts
from harness.tflite.tensors import FloatArray, sample_shape
from harness.tflite.variant import TensorType, VariantCard

Array = NDArray[np.generic]

RANDOM_SAMPLES = 8
"""How many random inputs check the outputs of a model without data."""
_SHUFFLE_SEED = 1


@dataclass(frozen=True)
class Dataset:
    """The labelled samples of a model's data file."""

    test_images: Array
    test_labels: NDArray[np.int64]
    scale: float
    offset: float
    scored: int = 0
    """Position of the output that the labels are for."""

    def as_input(self, images: Array) -> FloatArray:
        """Return images in the range that the float model wants, as float32."""
        return np.asarray(images.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset), np.float32)


@dataclass(frozen=True)
class Samples:
    """What goes through a device: one float array an input tensor, sample axis first."""

    inputs: tuple[FloatArray, ...]
    labels: NDArray[np.int64] | None
    """None: random inputs, which can check outputs but not accuracy."""
    scored: int = 0
    """Position of the output that the labels are for."""

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def sha256(self) -> str:
        """Identity of the inputs."""
        digest = hashlib.sha256()
        for array in self.inputs:
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def first(self, count: int) -> Samples:
        """Return the first samples."""
        labels = None if self.labels is None else self.labels[:count]
        return Samples(tuple(array[:count] for array in self.inputs), labels, self.scored)


def load_dataset(model: ModelSpec) -> Dataset | None:
    """Read a model's data file; None for a model without one. Raises `UsageError` for anything wrong with it."""
    if model.data is None:
        return None
    file = model.locate(model.data.path)
    wanted = ("test_images", "test_labels")
    try:
        arrays = read_arrays(file, wanted)
        labels = class_labels(arrays["test_labels"], "test_labels")
    except ArraysUnreadableError as error:
        raise UsageError(f"{file} {error}.", f"It must be a .npz file that holds {' and '.join(wanted)}.") from error
    images = arrays["test_images"]
    if images.dtype.kind not in "uif" or images.ndim < 2:  # noqa: PLR2004 - the first axis counts the samples
        raise UsageError(
            f"{file}: test_images are {images.dtype} of shape {images.shape}.", "Give one number per pixel."
        )
    if len(images) != len(labels) or not len(images):
        raise UsageError(
            f"{file} holds {len(images)} test_images and {len(labels)} test_labels.", "Give one label each."
        )
    return Dataset(images, labels, model.preprocessing.scale, model.preprocessing.offset)


def fit_dataset(dataset: Dataset, model: ModelSpec, facts: GraphFacts | VariantCard) -> Dataset:
    """Return a data set as the model takes it, with the output that it scores.

    Raises `UsageError` that says what does not fit.
    """
    images, takes = dataset.test_images, [tensor.shape for tensor in facts.inputs]
    if len(takes) == 1 and takes[0][-1:] == (1,) and images.ndim == len(takes[0]) - 1:
        images = images[..., None]  # grey images have no channel axis
    given = images.shape[1:]
    fits = len(takes) == 1 and len(takes[0]) == images.ndim
    if not fits or any(size not in (-1, found) for size, found in zip(takes[0][1:], given, strict=True)):
        raise UsageError(
            f"{model.name}: its data have the shape {given} per sample, but the model takes "
            f"{', '.join(str(shape[1:]) for shape in takes)}.",
            "Write the data in the model's own size; grey images count as one channel.",
        )
    scored = scored_output(model, facts)
    shape, highest = sample_shape(facts.outputs[scored]), int(dataset.test_labels.max())
    classes = int(np.prod(shape, dtype=np.int64))
    if max(shape, default=1) != classes or highest >= max(classes, 2):
        others = " Set scored_output in the model's TOML file to score another output." if facts.outputs[1:] else ""
        raise UsageError(
            f"{model.name}: its labels go up to {highest}, but the output {facts.outputs[scored].title} has the shape "
            f"{shape} per sample.",
            "Labels count from 0, and the scored output must be one score per class, or one value for classes 0 and 1."
            + others,
        )
    return replace(dataset, test_images=images, scored=scored)


def scored_output(model: ModelSpec, facts: GraphFacts | VariantCard) -> int:
    """Return the position of the output that the model file names. Raises `UsageError` if there is none."""
    wanted, names = model.scored_output, [tensor.title for tensor in facts.outputs]
    if isinstance(wanted, str) and wanted in names:
        return names.index(wanted)
    if isinstance(wanted, int) and wanted < len(names):
        return wanted
    raise UsageError(
        f"{model.name} has no output {wanted!r}.",
        f"Set scored_output to a position from 0 to {len(names) - 1}, or to one of {', '.join(names)}.",
    )


def class_scores(output: FloatArray, floats: FloatArray | None = None) -> FloatArray:
    """Return scores (samples, classes). A single value per sample is that of class 1, of two classes.

    It is a probability if all of the float model's lie between 0 and 1, so that the limit is 0.5; else a logit, and
    the limit is 0.
    """
    scores = output.reshape(len(output), -1)
    if scores.shape[1] != 1:
        return scores
    judged = scores if floats is None else floats
    is_probability = judged.min(initial=0) >= 0 and judged.max(initial=0) <= 1
    return np.hstack([1 - scores if is_probability else np.zeros_like(scores), scores])


def choose_samples(dataset: Dataset, count: int) -> Samples:
    """Return `count` test samples (at most all), spread evenly over the data set.

    Their order is shuffled, so that the first few of them are as mixed as the whole: data sets are often sorted.
    """
    total = len(dataset.test_images)
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    chosen = np.random.default_rng(_SHUFFLE_SEED).permutation(chosen)
    inputs = dataset.as_input(dataset.test_images[chosen])
    return Samples((inputs,), dataset.test_labels[chosen], dataset.scored)


def random_samples(inputs: tuple[TensorType, ...], *, count: int = RANDOM_SAMPLES, seed: int = 1) -> Samples:
    """Return random inputs for a model without data: floats in [-1, 1], small whole numbers for integer tensors."""
    random = np.random.default_rng(seed)
    arrays = []
    for tensor in inputs:
        shape = (count, *sample_shape(tensor))
        whole = not tensor.type.startswith("float") and not tensor.scale
        values = random.integers(0, 10, shape) if whole else random.uniform(-1, 1, shape)
        arrays.append(values.astype(np.float32))
    return Samples(tuple(arrays), None)
