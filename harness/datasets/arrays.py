"""Read the NumPy files that people name, without running anything that is in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


CALIBRATION_PREFIX = "calibration_"
CALIBRATION = f"{CALIBRATION_PREFIX}images"


class ArraysUnreadableError(Exception):
    """Why a file gives no arrays: the rest of a sentence that begins with the file's name."""


def read_arrays(file: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `.npz` file by name, all or those that are named; that of a `.npy` file is called `0`.

    Raises `ArraysUnreadableError`.
    """
    import numpy as np

    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            arrays = {"0": found}
        else:
            with found:
                arrays = {name: found[name] for name in found.files if name in names or not names}
    except OSError as error:
        raise ArraysUnreadableError(f"cannot be read ({error.strerror or 'damaged'})") from error
    except Exception as error:  # of NumPy, zipfile, zlib, ast and tokenize, which read what is damaged
        is_objects = "Object arrays" in str(error)
        reason = "holds Python objects, which are never loaded" if is_objects else "is no NumPy file, or is damaged"
        raise ArraysUnreadableError(reason) from error
    require_arrays(arrays, names)
    return arrays


def require_arrays(arrays: Collection[str], names: Sequence[str]) -> None:
    """Raise `ArraysUnreadableError` if one of the names is missing."""
    if missing := [name for name in names if name not in arrays]:
        raise ArraysUnreadableError(f"has no array {', '.join(missing)}")


def class_labels(labels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return the class of each sample, counted from 0, of whole numbers or one-hot rows in any type.

    Raises `ArraysUnreadableError` that names the array.
    """
    import numpy as np

    shape = labels.shape
    if labels.dtype.kind not in "buif" or not labels.size:
        raise ArraysUnreadableError(f"has {name} of type {labels.dtype} and shape {shape}, which are no classes")
    if labels.ndim == 2 and shape[1] > 1:  # noqa: PLR2004 - (samples, classes)
        if not ((labels == 0) | (labels == 1)).all() or (labels.sum(axis=1) != 1).any():
            raise ArraysUnreadableError(f"has {name} of shape {shape} whose rows are not one-hot (a single 1, else 0)")
        return np.asarray(labels.argmax(axis=1), np.int64)
    if labels.ndim != 1 and shape != (len(labels), 1):
        raise ArraysUnreadableError(f"has {name} of shape {shape}, not one label per sample")
    whole = labels.reshape(-1)
    if (whole != np.floor(whole)).any() or whole.min() < 0:
        raise ArraysUnreadableError(
            f"has {name} that are not whole numbers from 0 (they lie between {whole.min():g} and {whole.max():g}): "
            "only classes can be scored"
        )
    return whole.astype(np.int64)
