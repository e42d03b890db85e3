"""Data that differs from the training data in a known way: what a model gives there is how well it generalizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.evaluation.corruptions import Images


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
