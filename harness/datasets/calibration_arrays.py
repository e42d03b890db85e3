"""The samples that people give for calibration, as the model sees them; their order in the file means nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.datasets.arrays import CALIBRATION, CALIBRATION_PREFIX, ArraysUnreadableError, read_arrays
from harness.datasets.images import find_images
from harness.spec.model import ModelSpec, Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLASSES = "calibration_labels"


def calibration_names(inputs: Iterable[str]) -> dict[str, str]:
    """Return the name of the array for each input: `calibration_images` for a single one."""
    names = list(inputs)
    return {name: CALIBRATION if len(names) == 1 else f"{CALIBRATION_PREFIX}{name}" for name in names}


def read_calibration(model: ModelSpec, shapes: Mapping[str, tuple[int, ...]], most: int) -> dict[str, NDArray[Any]]:
    """Return an array per input, as the model takes it, with at most `most` samples, equally many of each class.

    `shapes` are those of the inputs, with the batch. Which samples, and in which order, does not depend on the order
    in a `.npz` file. The model must have data. Raises `ArraysUnreadableError`.
    """
    import numpy as np

    arrays, classes = _read(model, shapes, most)
    places = np.array(_chosen(list(arrays.values()), classes, most))
    return {name: array[places] for name, array in arrays.items()}


def _read(
    model: ModelSpec, shapes: Mapping[str, tuple[int, ...]], most: int
) -> tuple[dict[str, NDArray[Any]], list[bytes]]:
    """Return an array per input with one row per sample, and each sample's class. Of a folder, `most` are read."""
    import numpy as np

    assert model.data is not None  # noqa: S101 - by contract
    path = model.locate(model.data.path)
    stored = calibration_names(shapes)
    if path.is_dir() and len(shapes) == 1:
        files = find_images(path).for_calibration.spread(most)
        found = {stored[name]: files.pixels(shape[1:]) for name, shape in shapes.items()}
        found[_CLASSES] = np.array(files.labels or [0] * len(files))
    else:
        found = read_arrays(path, [*stored.values()])
    count = len(next(iter(found.values())))
    arrays = {}
    for name, shape in shapes.items():
        array = found[stored[name]]
        if array.ndim == len(shape) - 1:
            array = array[..., None]
        if array.shape != (count, *shape[1:]) or not count:
            raise ArraysUnreadableError(
                f"has {stored[name]} of shape {array.shape}, but the model's input is {shape}: all sizes but the first "
                "must agree"
            )
        # Arrays of several inputs come as the model takes them: one scale cannot fit an image and an index.
        is_scaled = len(shapes) == 1 and model.preprocessing != Preprocessing()
        arrays[name] = _scaled(array, model.preprocessing) if is_scaled else array
    try:
        labels = found[_CLASSES] if _CLASSES in found else read_arrays(path, [_CLASSES])[_CLASSES]
    except ArraysUnreadableError:
        labels = np.zeros(count, np.int8)
    if len(labels) != count:
        raise ArraysUnreadableError(f"has {count} calibration_images, but {len(labels)} calibration_labels")
    return arrays, [label.tobytes() for label in labels]


def _chosen(arrays: Sequence[NDArray[Any]], classes: Sequence[bytes], count: int) -> list[int]:
    """Return the places of `count` samples, as many of each class as there are, whatever their order in the file."""
    import numpy as np

    digests = [
        hashlib.sha256(b"".join(np.ascontiguousarray(array[index]).tobytes() for array in arrays)).digest()
        for index in range(len(arrays[0]))
    ]
    by_content = sorted(range(len(digests)), key=lambda index: (digests[index], classes[index]))
    seen: Counter[bytes] = Counter()
    rounds = {}
    for index in by_content:
        rounds[index] = seen[classes[index]]
        seen[classes[index]] += 1
    return sorted(by_content, key=rounds.__getitem__)[:count]


def _scaled(array: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    import numpy as np

    return np.asarray(array.astype(np.float32) * preprocessing.scale + preprocessing.offset, np.float32)
