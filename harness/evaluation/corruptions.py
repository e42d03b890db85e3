"""Images as a bad camera, bad weather or a bad cable would give them, at five severities.

After the families of ImageNet-C (Hendrycks and Dietterich 2019): noise, blur, weather, digital. Strengths are shares of
the image's own size and of the range of pixel values, since that paper's are made for 224 pixels; those that need more
detail than small images have (glass, snow, frost, elastic) are left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
    """Average so many cells of pixels in each direction, and repeat each over its cell."""
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
