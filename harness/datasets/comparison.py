"""What a variant and the float model both run on to be compared: real images, calibration images or noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from harness.datasets.arrays import ArraysUnreadableError, read_arrays
from harness.datasets.calibration_arrays import read_calibration
from harness.datasets.labelled import Samples, choose_samples, fit_dataset, load_dataset, random_samples
from harness.errors import UsageError
from harness.spec.model import ModelSpec, Preprocessing
from harness.tflite.flatbuffer import index_limits
from harness.tflite.tensors import sample_bytes, sample_shape
from harness.tflite.variant import Variant, VariantCard

COMPARED_SAMPLES = 50
"""Enough to see an agreement of 80 %; a slow variant of a large network takes half a second for each."""
_MOST_BYTES = 64 * 1024 * 1024


class InputKind(StrEnum):
    """Where the inputs of a comparison come from."""

    REAL = "real"
    CALIBRATION = "calibration"
    RANDOM = "random"


@dataclass(frozen=True)
class ComparisonInputs:
    """Samples, and what they are."""

    kind: InputKind
    samples: Samples


def comparison_inputs(model: ModelSpec, floats: Variant, *, count: int = COMPARED_SAMPLES) -> ComparisonInputs:
    """Return test images, else calibration images, else noise; here data that do not fit the float model are passed."""
    most = max(1, min(count, _MOST_BYTES // max(1, sum(map(sample_bytes, floats.card.inputs)))))
    return next(_own_data(model, floats.card, most), None) or noise(model, floats)


def _own_data(model: ModelSpec, card: VariantCard, count: int) -> Iterator[ComparisonInputs]:
    with suppress(UsageError):  # no labels, or images of another shape
        if dataset := load_dataset(model):
            yield ComparisonInputs(InputKind.REAL, choose_samples(fit_dataset(dataset, model, card), count))
    if model.data is None:
        return
    if len(card.inputs) == 1:
        with suppress(ArraysUnreadableError):
            images = read_arrays(model.locate(model.data.path), ["test_images"])["test_images"]
            shape = sample_shape(card.inputs[0])
            if images[0].size == np.prod(shape) and np.issubdtype(images.dtype, np.number):
                chosen = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
                values = images[chosen].astype(np.float32) * model.preprocessing.scale + model.preprocessing.offset
                yield ComparisonInputs(InputKind.REAL, Samples((values.astype(np.float32).reshape(-1, *shape),), None))
    with suppress(ArraysUnreadableError):
        shapes = {tensor.title: tuple(max(1, size) for size in tensor.shape) for tensor in card.inputs}
        arrays = read_calibration(model, shapes, count)
        inputs = tuple(
            arrays[tensor.title].astype(np.float32).reshape(-1, *sample_shape(tensor)) for tensor in card.inputs
        )
        yield ComparisonInputs(InputKind.CALIBRATION, Samples(inputs, None))


def noise(model: ModelSpec, floats: Variant, *, like_calibration: bool = False) -> ComparisonInputs:
    """Return noise over what pixels become, else -1 to 1; token ids lie within the embedding that they look up.

    `like_calibration`: over the range of a calibration on noise, which outside of it would clip.
    """
    preprocessing = model.preprocessing
    is_known = like_calibration or preprocessing != Preprocessing()
    low, high = (
        sorted(preprocessing.scale * pixel + preprocessing.offset for pixel in (0, 255)) if is_known else (-1, 1)
    )
    most = index_limits(floats.path.read_bytes())
    return ComparisonInputs(InputKind.RANDOM, random_samples(floats.card.inputs, low=low, high=high, most=most))
