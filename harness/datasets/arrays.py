"""Read the NumPy files that people name, without running anything that is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    if missing := [name for name in names if name not in arrays]:
        raise ArraysUnreadableError(f"has no array {', '.join(missing)}")
    return arrays
