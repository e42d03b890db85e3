"""The labelled images of a model, and the samples of them that go through a device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.datasets.arrays import CALIBRATION_PREFIX, ArraysUnreadableError, class_labels, read_arrays, require_arrays
from harness.datasets.images import ImageFiles, find_images
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

    test_images: Array | ImageFiles
    test_labels: NDArray[np.int64]
    scale: float
    offset: float
    scored: int = 0
    """Position of the output that the labels are for."""
    shape: tuple[int, ...] = ()
    """What the model takes per sample; empty until the data set is fitted."""

    @property
    def size(self) -> tuple[int, ...] | None:
        """Shape of a sample as it is stored; None for image files, which have any size."""
        return None if isinstance(self.test_images, ImageFiles) else self.test_images.shape[1:]

    @property
    def is_pictures(self) -> bool:
        """Return True if samples have pixels, which can be blurred, turned or hidden."""
        return isinstance(self.test_images, ImageFiles) or self.test_images.dtype == np.uint8

    def chosen_inputs(self, places: NDArray[np.integer]) -> FloatArray:
        """Return some samples in the range that the float model wants. Raises `UsageError` that names a bad image."""
        images = self.test_images
        if not isinstance(images, ImageFiles):
            return self.as_input(images[places].reshape(len(places), *(self.shape or images.shape[1:])))
        try:
            return self.as_input(images.chosen(places.tolist()).pixels(self.shape))
        except ArraysUnreadableError as error:
            raise UsageError(f"{images.folder} {error}.", "Replace or remove that file.") from error

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
    """Read a model's labelled data; None for a model without any. Raises `UsageError` for anything wrong with it."""
    if model.data is None:
        return None
    file = model.locate(model.data.path)
    wanted = ("test_images", "test_labels")
    scale, offset = model.preprocessing.scale, model.preprocessing.offset
    try:
        if file.is_dir():
            files = find_images(file).for_test
            return Dataset(files, np.array(files.labels), scale, offset) if files.labels else None
        arrays = read_arrays(file)
        is_calibration = any(name.startswith(CALIBRATION_PREFIX) for name in arrays)  # one array per input, if several
        if is_calibration and not arrays.keys() & set(wanted):
            return None
        require_arrays(arrays, wanted)
        images, labels = arrays["test_images"], class_labels(arrays["test_labels"], "test_labels")
    except ArraysUnreadableError as error:
        advice = f"Give a .npz file that holds {' and '.join(wanted)}, or a folder with one folder of images per class."
        raise UsageError(f"{file} {error}.", advice) from error
    if images.dtype.kind not in "uif" or images.ndim < 2:  # noqa: PLR2004 - the first axis counts the samples
        raise UsageError(f"{file}: test_images are {images.dtype} of shape {images.shape}.", "Give arrays of numbers.")
    if len(images) != len(labels) or not len(images):
        raise UsageError(
            f"{file} holds {len(images)} test images, but {len(labels)} test labels.", "Give one per image."
        )
    return Dataset(images, labels, scale, offset)


def data_notes(model: ModelSpec, dataset: Dataset | None) -> tuple[str, ...]:
    """Return what a person should know about a model's data: files left out, the order of classes, missing labels."""
    if model.data is not None and dataset is None:
        return (f"{model.data.path} has no labels, so that accuracy is not measured.",)
    return dataset.test_images.notes if dataset and isinstance(dataset.test_images, ImageFiles) else ()


def fit_dataset(dataset: Dataset, model: ModelSpec, facts: GraphFacts | VariantCard) -> Dataset:
    """Return a data set as the model takes it, with the output that it scores.

    Raises `UsageError` that says what does not fit.
    """
    takes = [tensor.shape[1:] for tensor in facts.inputs]
    shape = _shape_for(dataset.test_images, takes[0]) if len(takes) == 1 else None
    if shape is None:
        given = "image files" if dataset.size is None else f"samples of shape {dataset.size}"
        raise UsageError(
            f"{model.name}: its data are {given}, but the model takes {', '.join(map(str, takes))} per sample.",
            "Write the data in the model's own size; grey images count as one channel.",
        )
    scored = scored_output(model, facts)
    scores, highest = sample_shape(facts.outputs[scored]), int(dataset.test_labels.max())
    classes = int(np.prod(scores, dtype=np.int64))
    if max(scores, default=1) != classes or highest >= max(classes, 2):
        others = " Set scored_output in the model's TOML file to score another output." if facts.outputs[1:] else ""
        raise UsageError(
            f"{model.name}: its labels go up to {highest}, but the output {facts.outputs[scored].title} has the shape "
            f"{scores} per sample.",
            "Labels count from 0, and the scored output must be one score per class, or one value for classes 0 and 1."
            + others,
        )
    return replace(dataset, scored=scored, shape=shape)


def _shape_for(images: Array | ImageFiles, takes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape in which samples go in, with a channel axis if the model wants one; None if they do not fit."""
    if isinstance(images, ImageFiles):
        return takes if len(takes) == 3 and min(takes) > 0 else None  # noqa: PLR2004 - (height, width, channels)
    for shape in (images.shape[1:], (*images.shape[1:], 1)):
        if len(shape) == len(takes) and all(size in (-1, given) for size, given in zip(takes, shape, strict=True)):
            return shape
    return None


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
    """Return `count` test samples (at most all) of a fitted data set, spread evenly over it.

    Their order is shuffled, so that the first few of them are as mixed as the whole: data sets are often sorted.
    """
    total = len(dataset.test_labels)
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    chosen = np.random.default_rng(_SHUFFLE_SEED).permutation(chosen)
    return Samples((dataset.chosen_inputs(chosen),), dataset.test_labels[chosen], dataset.scored)


def random_samples(
    inputs: tuple[TensorType, ...],
    *,
    count: int = RANDOM_SAMPLES,
    seed: int = 1,
    low: float = -1.0,
    high: float = 1.0,
    most: Mapping[str, int] | None = None,
) -> Samples:
    """Return random inputs for a model without data: floats from `low` to `high`, whole numbers that are plausible.

    `most` holds, by the input's name, below which number its whole numbers stay, such as the rows of an embedding.
    """
    random = np.random.default_rng(seed)
    rows = most or {}
    arrays = []
    for tensor in inputs:
        shape = (count, *sample_shape(tensor))
        whole = tensor.name in rows or (not tensor.type.startswith("float") and not tensor.scale)
        bounds = (0, rows[tensor.name]) if tensor.name in rows else _WHOLE_NUMBERS.get(tensor.type, (0, 10))
        values = random.integers(*bounds, shape) if whole else _noise(random, shape, low, high)
        arrays.append(values.astype(np.float32))
    return Samples(tuple(arrays), None)


def _noise(random: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> NDArray[np.float64]:
    """Return samples of noise about levels of their own, the first over the whole range, the last nearly even.

    Noise over the whole range alone saturates most networks in one answer, which hides what is wrong with the others.
    """
    each = (-1, *(1 for _ in shape[1:]))
    levels = random.uniform(low, high, shape[0]).reshape(each)
    spread = np.linspace(1, 0.1, shape[0]).reshape(each)
    return np.asarray(levels + spread * (random.uniform(low, high, shape) - levels))


_WHOLE_NUMBERS = {"bool": (0, 2), "uint8": (0, 256), "int8": (-128, 128)}
"""From and below which noise is drawn for bytes; wider types mostly hold indices, of which the small ones exist."""
