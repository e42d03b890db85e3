"""Folders of images: which files, which classes, and their pixels upright and in the model's size."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.arrays import ArraysUnreadableError
from harness.text import pluralize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_CALIBRATION_STEP = 4
_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}
_NUMBERED = re.compile(r"(?P<stem>\D*)(?P<number>\d+)")


@dataclass(frozen=True)
class ImageFiles:
    """The images of a folder, class by class and by name."""

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    """Empty for a folder without folders of classes."""
    notes: tuple[str, ...]
    """What a person should know: files that were left out, the order of the classes."""

    def __len__(self) -> int:
        return len(self.files)

    @property
    def sha256(self) -> str:
        """Identity of the files by name, size and time: reading every photo would take minutes."""
        listing = [
            f"{file.relative_to(self.folder)} {stat.st_size} {stat.st_mtime_ns}"
            for file, stat in ((file, file.stat()) for file in self.files)
        ]
        return hashlib.sha256(repr(listing).encode()).hexdigest()

    def chosen(self, places: Iterable[int]) -> ImageFiles:
        """Return some of them."""
        kept = list(places)
        labels = tuple(self.labels[place] for place in kept) if self.labels else ()
        return ImageFiles(self.folder, tuple(self.files[place] for place in kept), labels, self.notes)

    def spread(self, count: int) -> ImageFiles:
        """Return at most this many, evenly spread, and so over the classes too."""
        step = max(1.0, len(self) / count)
        return self.chosen(int(place * step) for place in range(min(count, len(self))))

    @property
    def for_calibration(self) -> ImageFiles:
        """Every fourth image of a folder with classes, which is then not tested on; all of one without."""
        return self.chosen(range(0, len(self), _CALIBRATION_STEP)) if self.labels else self

    @property
    def for_test(self) -> ImageFiles:
        """The labelled images that calibration does not see."""
        return self.chosen(place for place in range(len(self)) if place % _CALIBRATION_STEP)

    def pixels(self, shape: Sequence[int]) -> Pixels:
        """Return all images as (N, height, width, channels). Raises `ArraysUnreadableError` that names a bad file."""
        import numpy as np

        if len(shape) != 3 or min(shape) < 1:  # noqa: PLR2004 - (height, width, channels)
            raise ArraysUnreadableError(f"holds images, but the model takes {tuple(shape)} per sample")
        height, width, channels = shape
        found = np.empty((len(self), height, width, channels), np.uint8)
        for place, file in enumerate(self.files):
            found[place] = self._read(file, height, width, channels)
        return found

    def _read(self, file: Path, height: int, width: int, channels: int) -> Pixels:
        import numpy as np
        from PIL import Image, ImageOps

        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image)
                pixels = _pixels(upright, channels)
        except Exception as error:  # Pillow raises all kinds, from OSError to SyntaxError
            name = file.relative_to(self.folder)
            raise ArraysUnreadableError(f"holds {name}, which cannot be read as an image ({error})") from error
        return np.asarray(_resized(pixels, height, width).round(), np.uint8)


def find_images(folder: Path) -> ImageFiles:
    """List the images of a folder, or of its folders of classes. Raises `ArraysUnreadableError`."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        classes, notes = _in_class_order([entry.name for entry in entries if entry.is_dir()])
        groups = [sorted((folder / name).rglob("*")) for name in classes] or [entries]
    except OSError as error:
        raise ArraysUnreadableError(f"cannot be read ({error.strerror})") from error
    files, labels = list[Path](), list[int]()
    for label, group in enumerate(groups):
        images = [file for file in group if file.suffix.lower() in SUFFIXES and file.is_file()]
        if classes and not images:
            raise ArraysUnreadableError(f"holds no image of the class {classes[label]}")
        files += images
        labels += [label] * len(images)
    if not files:
        raise ArraysUnreadableError(f"holds no image ({', '.join(sorted(SUFFIXES))})")
    notes += _left_out(folder, {*entries, *chain(*groups)} - set(files))
    return ImageFiles(folder, tuple(files), tuple(labels) if classes else (), tuple(notes))


def _in_class_order(names: list[str]) -> tuple[list[str], list[str]]:
    """Return class folders in order, by number if all are numbered alike, with what has to be said about it."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    if not names or not all(matches) or len({match["stem"] for match in matches if match}) > 1:
        return names, []
    numbers = [int(match["number"]) for match in matches if match]
    ordered = [name for _, name in sorted(zip(numbers, names, strict=True))]
    notes = []
    if ordered != names:
        notes.append(
            f"The class folders {ordered[0]} to {ordered[-1]} count in the order of their numbers, not of the alphabet "
            f"({', '.join(names[:3])}, ...), which Keras takes: a model trained in that order needs other folder names."
        )
    if sorted(numbers) != list(range(len(numbers))):
        notes.append(f"Classes count from 0 without gaps: the folder {ordered[0]} is class 0.")
    return ordered, notes


def _left_out(folder: Path, entries: Iterable[Path]) -> list[str]:
    others = sorted(entry for entry in entries if entry.is_file() and not entry.name.startswith("."))
    if not others:
        return []
    kinds = Counter(file.suffix.lower() or "no ending" for file in others)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return [f"{folder}: {pluralize(len(others), 'file')} left out ({counts}), such as {others[0].relative_to(folder)}."]


def _pixels(image: Any, channels: int) -> NDArray[np.float32]:  # noqa: ANN401
    """Return (height, width, channels) in 0..255; of 16 bits the upper 8 are kept, as TensorFlow does."""
    import numpy as np

    if channels not in _COLOURS:
        raise ValueError(f"the model takes {channels} channels")
    if image.mode == "F" or (image.mode == "I" and image.getextrema()[1] > np.iinfo(np.uint16).max):
        raise ValueError("its numbers have 32 bits")
    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.float32)[..., None]
        return np.repeat(grey, min(channels, 3), axis=2)
    pixels = np.asarray(image.convert(_COLOURS[channels]), np.float32)
    return pixels if pixels.ndim == 3 else pixels[..., None]  # noqa: PLR2004 - grey has no channel axis


def _resized(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize bilinearly, without smoothing, as Keras does with folders of images."""
    import numpy as np

    for axis, size in enumerate((height, width)):
        old = pixels.shape[axis]
        middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(old / size) - np.float32(0.5)
        low = np.floor(middle)
        share = (middle - low).reshape([-1 if place == axis else 1 for place in range(3)])
        first, second = (pixels.take(np.clip(low + more, 0, old - 1).astype(int), axis=axis) for more in (0, 1))
        pixels = first + (second - first) * share
    return pixels
