"""Changed images under which variants are compared with the float model: corruptions, shifts, attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.outcome import Proportion
from harness.accuracy.output_check import proportion
from harness.datasets.labelled import Dataset, Samples, choose_samples
from harness.evaluation.fidelity import Paired, compare_paired, probabilities
from harness.tflite.tensors import FloatArray

TRANSFERRED = "transferred"
"""Attacks that were made on the float model."""
OWN = "own"
"""Attacks that were made on the variant itself."""


@dataclass(frozen=True)
class Changed:
    """Samples that were changed on purpose."""

    name: str
    kind: str
    """`noise`, `blur`, `weather`, `digital`, `shift`, `transferred` or `own`."""
    severity: int | None
    """1 to 5; None for a shift or an attack."""
    samples: Samples
    float_samples: Samples | None = None
    """What the float model gets instead; None: the same."""


@dataclass(frozen=True)
class Condition:
    """What a variant gives on changed images."""

    name: str
    kind: str
    severity: int | None
    top1: Proportion
    float_top1: float
    paired: Paired
    """Against the float model on the same images, changed alike; in `own`, each faces what was made on itself."""


class ChangedImages:
    """Images under every condition; rebuilt each time that they are gone through, since all would be large."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        """Choose `count` images of a data set; they are changed before preprocessing."""
        self._dataset = dataset
        chosen = choose_samples(replace(dataset, scale=1.0, offset=0.0), count)
        self._images: Images = chosen.inputs[0].round().astype("uint8")
        self._chosen = chosen

    def __len__(self) -> int:
        return len(corruption_names()) * len(SEVERITIES) + len(SHIFTS)

    def __iter__(self) -> Iterator[Changed]:
        for name, family in corruption_names().items():
            for severity in SEVERITIES:
                yield Changed(name, family, severity, self._samples(corrupt(self._images, name, severity)))
        for name, shift in SHIFTS.items():
            yield Changed(name, "shift", None, self._samples(shift(self._images)))

    def _samples(self, changed: Images) -> Samples:
        return replace(self._chosen, inputs=(self._dataset.as_input(changed),))


def compare_condition(changed: Changed, scores: FloatArray, floats: FloatArray) -> Condition:
    """Compare a variant's class scores on changed samples with the float model's; as many as the variant gave."""
    assert changed.samples.labels is not None  # noqa: S101 - changed images come from a data set
    labels = changed.samples.labels[: len(scores)]
    right, float_right = (probabilities(one[: len(scores)]).argmax(axis=1) == labels for one in (scores, floats))
    return Condition(
        changed.name,
        changed.kind,
        changed.severity,
        proportion(int(right.sum()), len(right)),
        float(float_right.mean()),
        compare_paired(right, float_right),
    )


Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
SEVERITIES = (1, 2, 3, 4, 5)

_Corruption = Callable[[Floats, float, np.random.Generator], Floats]
_CORRUPTIONS: dict[str, tuple[str, tuple[float, ...], _Corruption]] = {}


def _corruption(name: str, family: str, strengths: tuple[float, ...]) -> Callable[[_Corruption], _Corruption]:
    def register(function: _Corruption) -> _Corruption:
        _CORRUPTIONS[name] = (family, strengths, function)
        return function

    return register


def corruption_names() -> dict[str, str]:
    """Return the family of every corruption by its name."""
    return {name: family for name, (family, _, _) in _CORRUPTIONS.items()}


def corrupt(images: Images, name: str, severity: int, *, seed: int = 0) -> Images:
    """Return images (N, height, width[, channels]) corrupted at a severity of 1 to 5; the same for the same seed."""
    _, strengths, function = _CORRUPTIONS[name]
    with_channels = images if images.ndim == 4 else images[..., None]  # noqa: PLR2004 - (N, height, width, channels)
    changed = function(with_channels / 255.0, strengths[severity - 1], np.random.default_rng([seed, severity]))
    found: Images = np.clip(np.rint(changed * 255), 0, 255).astype(np.uint8)
    return found if images.ndim == 4 else found[..., 0]  # noqa: PLR2004


@_corruption("gaussian-noise", "noise", (0.04, 0.08, 0.12, 0.18, 0.26))
def _gaussian_noise(images: Floats, strength: float, generator: np.random.Generator) -> Floats:
    return images + generator.normal(0, strength, images.shape)


@_corruption("shot-noise", "noise", (60, 25, 12, 5, 3))
def _shot_noise(images: Floats, photons: float, generator: np.random.Generator) -> Floats:
    return np.asarray(generator.poisson(images * photons) / photons)


@_corruption("impulse-noise", "noise", (0.01, 0.03, 0.06, 0.10, 0.17))
def _impulse_noise(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    drawn = generator.random(images.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn > 1 - share / 2, 1.0, images))


@_corruption("defocus-blur", "blur", (0.010, 0.018, 0.026, 0.036, 0.050))
def _defocus_blur(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    from scipy.ndimage import gaussian_filter

    radius = share * images.shape[1]
    return np.asarray(gaussian_filter(images, (0, radius, radius, 0)))


@_corruption("motion-blur", "blur", (0.05, 0.09, 0.13, 0.18, 0.25))
def _motion_blur(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    from scipy.ndimage import uniform_filter1d

    return np.asarray(uniform_filter1d(images, max(2, round(share * images.shape[2])), axis=2))


@_corruption("fog", "weather", (0.15, 0.25, 0.35, 0.45, 0.60))
def _fog(images: Floats, strength: float, generator: np.random.Generator) -> Floats:
    from scipy.ndimage import gaussian_filter

    radius = 0.2 * images.shape[1]
    clouds = gaussian_filter(generator.random(images.shape[:3]), (0, radius, radius))
    low, high = clouds.min(axis=(1, 2), keepdims=True), clouds.max(axis=(1, 2), keepdims=True)
    thickness = strength * (0.5 + 0.5 * (clouds - low) / np.maximum(high - low, 1e-9))[..., None]
    return np.asarray(images * (1 - thickness) + thickness)


@_corruption("brightness", "weather", (0.10, 0.20, 0.30, 0.40, 0.50))
def _brightness(images: Floats, strength: float, generator: np.random.Generator) -> Floats:
    return images + strength


@_corruption("darkness", "weather", (0.80, 0.65, 0.50, 0.38, 0.27))
def _darkness(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    return images * share


@_corruption("contrast", "digital", (0.75, 0.60, 0.45, 0.32, 0.20))
def _contrast(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    middle = images.mean(axis=(1, 2), keepdims=True)
    return np.asarray((images - middle) * share + middle)


@_corruption("pixelate", "digital", (0.85, 0.70, 0.55, 0.42, 0.30))
def _pixelate(images: Floats, share: float, generator: np.random.Generator) -> Floats:
    """Average this many cells of pixels in each direction, and repeat each over its cell."""
    for axis in (1, 2):
        size = images.shape[axis]
        cell_of = np.arange(size) * max(1, round(size * share)) // size
        starts = np.flatnonzero(np.diff(cell_of, prepend=-1))
        counts = np.diff(starts, append=size)
        sums = np.add.reduceat(images, starts, axis=axis)
        means = sums / counts.reshape([-1 if place == axis else 1 for place in range(images.ndim)])
        images = np.repeat(means, counts, axis=axis)
    return images


@_corruption("quantize", "digital", (32, 16, 8, 5, 3))
def _quantize(images: Floats, levels: float, generator: np.random.Generator) -> Floats:
    return np.rint(images * (levels - 1)) / (levels - 1)


def rotated(images: Images, degrees: float) -> Images:
    """Turn images about their middle; what comes in from outside is black."""
    from scipy.ndimage import rotate

    turned = rotate(images.astype(np.float32), degrees, axes=(2, 1), reshape=False, order=1)
    return np.asarray(np.clip(np.rint(turned), 0, 255), np.uint8)


def translated(images: Images, share: float) -> Images:
    """Move images right and down by a share of their size; what comes in from outside is black."""
    down, right = (round(share * size) for size in images.shape[1:3])
    moved = np.zeros_like(images)
    moved[:, down:, right:] = images[:, : images.shape[1] - down, : images.shape[2] - right]
    return moved


def mirrored(images: Images) -> Images:
    """Swap left and right."""
    return images[:, :, ::-1].copy()


def inverted(images: Images) -> Images:
    """Swap black and white."""
    return (255 - images.astype(np.int16)).astype(np.uint8)


SHIFTS: dict[str, Callable[[Images], Images]] = {
    "rotated 10 degrees": lambda images: rotated(images, 10),
    "rotated 25 degrees": lambda images: rotated(images, 25),
    "moved by a tenth": lambda images: translated(images, 0.1),
    "mirrored": mirrored,
    "inverted": inverted,
}
