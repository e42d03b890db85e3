"""Shuffled, augmented batches of images as the model sees them."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from harness.datasets.training import LabelledImages, as_input
from harness.spec.model import Augmentation, Preprocessing


class Batches(keras.utils.PyDataset):  # type: ignore[misc] # Keras has no types
    """One epoch of training data; every epoch has an order and changes of its own, given by seed and epoch alone."""

    def __init__(
        self, data: LabelledImages, preprocessing: Preprocessing, augmentation: Augmentation, *, batch: int, seed: int
    ) -> None:
        super().__init__()
        self._data, self._preprocessing, self._augmentation = data, preprocessing, augmentation
        self._batch, self._seed = batch, seed
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0: a resumed training sees what an unbroken one would."""
        self._epoch = epoch
        self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data))

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch (Keras calls this)."""
        self.start_epoch(self._epoch + 1)

    def __len__(self) -> int:
        return math.ceil(len(self._data) / self._batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        random = np.random.default_rng([self._seed, self._epoch, index])
        images = _augmented(self._data.images[chosen], self._augmentation, random)
        return as_input(images, self._preprocessing), self._data.labels[chosen]


def _augmented(images: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    shift = augmentation.shift_pixels
    if shift:
        height, width = images.shape[1:3]
        padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
        down, right = random.integers(0, 2 * shift + 1, 2)
        images = padded[:, down : down + height, right : right + width]
    if augmentation.mirror:
        mirrored = random.integers(0, 2, len(images)).astype(bool)
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images
