"""Where a model looks: how much a class loses when a grey square hides a place (Zeiler and Fergus 2014, section 4.2).

It needs no gradient, so that the float model and any variant of it are looked at in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.reference import HostOutputs
from harness.datasets.labelled import Dataset, Samples, class_scores
from harness.evaluation.fidelity import probabilities
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

SQUARE_SHARE = 0.18
"""Side of the square over that of the image."""
STEPS_PER_SQUARE = 2
"""Squares overlap, so that the map is finer than they are."""

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What one model says to one image, and why."""

    label: int
    confidence: float
    float_label_map: Map
    """By pixel, what the class that the float model gave loses of its probability when the pixel is hidden; the mean
    over all squares that hide it."""


@dataclass(frozen=True)
class FlippedInput:
    """An image that a variant and the float model answer differently."""

    sample: int
    """Its place among the samples."""
    label: int
    """The right class."""
    image: NDArray[np.uint8]
    """(height, width, channels)."""
    floats: Answer
    variant: Answer

    @property
    def map_correlation(self) -> float:
        """Pearson's correlation of both maps; 0 if one is flat."""
        maps = [one.float_label_map.ravel() for one in (self.floats, self.variant)]
        return float(np.atleast_2d(np.corrcoef(maps))[0, 1]) if all(np.ptp(one) for one in maps) else 0.0


def flipped_inputs(
    variant: Variant,
    float_variant: Variant,
    samples: Samples,
    flips: Sequence[int],
    dataset: Dataset,
    reference: HostOutputs,
) -> Iterator[FlippedInput]:
    """Yield what both models look at, for each of the samples named. Raises `FailureError`."""
    assert samples.labels is not None  # noqa: S101 - flips are reported of labelled samples
    for sample in flips:
        image = samples.inputs[0][sample]
        hidden = Samples((_hidden(image),), None)
        found, exact = (reference.outputs(one, hidden)[samples.scored] for one in (variant, float_variant))
        scores, floats = probabilities(class_scores(found, exact)), probabilities(class_scores(exact))
        label = int(floats[0].argmax())
        pixels = (image - dataset.offset) / dataset.scale
        yield FlippedInput(
            sample,
            int(samples.labels[sample]),
            np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
            *(
                Answer(int(one[0].argmax()), float(one[0].max()), _map(one[:, label], image.shape[:2]))
                for one in (floats, scores)
            ),
        )


def _squares(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the places of the square, from corner to corner."""
    side = max(1, round(SQUARE_SHARE * min(height, width)))
    step = max(1, side // STEPS_PER_SQUARE)
    tops, lefts = (sorted({*range(0, size - side, step), size - side}) for size in (height, width))
    return [(slice(top, top + side), slice(left, left + side)) for top in tops for left in lefts]


def _hidden(image: FloatArray) -> FloatArray:
    """Return the image, then one copy for each square with the image's mean in it."""
    squares = _squares(*image.shape[:2])
    copies = np.repeat(image[None], len(squares) + 1, axis=0)
    for copy, square in zip(copies[1:], squares, strict=True):
        copy[square] = image.mean(axis=(0, 1))
    return copies


def _map(probability: NDArray[np.float64], shape: tuple[int, int]) -> Map:
    total, count = np.zeros(shape), np.zeros(shape)
    for square, hidden in zip(_squares(*shape), probability[1:], strict=True):
        total[square] += probability[0] - hidden
        count[square] += 1
    return np.asarray(total / count)
