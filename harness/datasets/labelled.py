"""The labelled images of a model, and the samples of them that go through a device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.arrays import ArraysUnreadableError, read_arrays
from harness.errors import UsageError
from harness.spec.model import ModelSpec
from harness.tflite.tensors import FloatArray, sample_shape
from harness.tflite.variant import TensorType, VariantCard

Array = NDArray[np.generic]

RANDOM_SAMPLES = 8
"""How many random inputs check the outputs of a model without data."""
_SHUFFLE_SEED = 1


@dataclass(frozen=True)
class Dataset:
    """All that a model's data file holds. Images are (N, height, width[, channels]) uint8."""

    test_images: Array
    test_labels: NDArray[np.int64]
    calibration_images: Array
    scale: float
    offset: float

    def as_input(self, images: Array) -> FloatArray:
        """Return images as the float model wants them: (N, height, width, channels) float32."""
        values = images.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        return values[..., None] if values.ndim == 3 else values  # noqa: PLR2004 - grey images have no channel axis


@dataclass(frozen=True)
class Samples:
    """What goes through a device: one float array an input tensor, sample axis first."""

    inputs: tuple[FloatArray, ...]
    labels: NDArray[np.int64] | None
    """None: random inputs, which can check outputs but not accuracy."""

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
        return Samples(tuple(array[:count] for array in self.inputs), labels)


def load_dataset(model: ModelSpec) -> Dataset | None:
    """Read a model's data file; None for a model without one. Raises `UsageError` for anything wrong with it."""
    if model.data is None:
        return None
    file = model.locate(model.data.path)
    arrays = _read_arrays(file)
    images, labels, calibration = (arrays[name] for name in ("test_images", "test_labels", "calibration_images"))
    if images.dtype != np.uint8 or calibration.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UsageError(f"{file}: images must be uint8 of shape (N, height, width[, channels]).", "Write them again.")
    if len(images) != len(labels) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"{file}: {len(images)} test images, but labels of shape {labels.shape}.", "Write it again.")
    if len(images) == 0 or labels.min() < 0:
        raise UsageError(f"{file}: no test images, or a negative label.", "Write it again.")
    preprocessing = model.preprocessing
    return Dataset(images, labels.astype(np.int64), calibration, preprocessing.scale, preprocessing.offset)


def choose_samples(dataset: Dataset, count: int) -> Samples:
    """Return `count` test samples (at most all), spread evenly over the data set.

    Their order is shuffled, so that the first few of them are as mixed as the whole: data sets are often sorted.
    """
    total = len(dataset.test_images)
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    chosen = np.random.default_rng(_SHUFFLE_SEED).permutation(chosen)
    return Samples((dataset.as_input(dataset.test_images[chosen]),), dataset.test_labels[chosen])


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


def require_fit(samples: Samples, card: VariantCard) -> None:
    """Check that labelled samples are what a model takes and gives. Raises `UsageError` that says what differs."""
    if samples.labels is None:
        return
    given = samples.inputs[0].shape[1:]
    takes = [tensor.shape[1:] for tensor in card.inputs]
    fits = len(takes) == 1 and len(takes[0]) == len(given)
    if not fits or any(size not in (-1, found) for size, found in zip(takes[0], given, strict=True)):
        raise UsageError(
            f"{card.model}: its data are images of shape {given}, but the model takes {takes}.",
            "Write the images in the model's own size; grey images count as one channel.",
        )
    scores = sample_shape(card.outputs[0])
    highest = int(samples.labels.max())
    if len(scores) != 1 or highest >= scores[0]:
        raise UsageError(
            f"{card.model}: its labels go up to {highest}, but the first output has the shape {scores} a sample.",
            "Labels count from 0, and the model's first output must be one score per class.",
        )


def _read_arrays(file: Path) -> dict[str, Array]:
    wanted = ("test_images", "test_labels", "calibration_images")
    try:
        return dict(read_arrays(file, wanted))
    except ArraysUnreadableError as error:
        raise UsageError(f"{file} {error}.", f"It must be a .npz file that holds {', '.join(wanted)}.") from error
