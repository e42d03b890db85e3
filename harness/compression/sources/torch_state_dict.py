"""Read a PyTorch state_dict (`.pth`) with NumPy alone, and without running code out of it.

A `.pth` file is a pickle, which could call any function; this reader's unpickler knows four names and refuses all
others. It reads both layouts: the ZIP archive of PyTorch 1.6 and later (`data.pkl` and one file per storage), and the
older stream of five pickles (magic number, protocol, machine, state_dict, storage keys) followed by the storages.
Layouts after torch/serialization.py, functions `_load` and `_legacy_load`.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_STORAGE_TYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
}


@dataclass
class _Storage:
    """A flat array that tensors are views of; older files bring its numbers after the tensors."""

    type_name: str
    numbers: NDArray[Any] | None = None


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> NDArray[Any]:
        """Return the tensor as an array of its own. Raises `ValueError` when it reaches beyond its storage."""
        numbers = self.storage.numbers
        if numbers is None:
            raise ValueError("a tensor has no storage")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides), default=0) < 0 or last >= max(len(numbers), 1):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides).copy()


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors by name. Raises `ValueError` for anything but a plain state_dict."""
    try:
        tensors = _read_zip(path) if zipfile.is_zipfile(path) else _read_stream(path)
        return {name: tensor.array() for name, tensor in tensors.items() if isinstance(tensor, _Tensor)}
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        LookupError,
        AttributeError,
        ValueError,
    ) as error:
        raise ValueError(f"{path.name} is not a plain PyTorch state_dict: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Builds tensors as `_Tensor` and refuses every other object."""

    def __init__(self, file: IO[bytes], storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in _STORAGE_TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is refused")

    def persistent_load(self, identifier: tuple[Any, ...]) -> _Storage:
        _, type_name, key = identifier[:3]
        return self._storages.setdefault(key, _Storage(type_name))


def _read_zip(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        storages: dict[str, _Storage] = {}
        tensors = _Unpickler(io.BytesIO(archive.read(f"{root}/data.pkl")), storages).load()
        for key, storage in storages.items():
            content = archive.read(f"{root}/data/{key}")
            storage.numbers = np.frombuffer(content, _STORAGE_TYPES[storage.type_name])
    return dict(tensors)


def _read_stream(path: Path) -> dict[str, Any]:
    storages: dict[str, _Storage] = {}
    with path.open("rb") as file:
        for _ in ("magic number", "protocol version", "machine"):
            _Unpickler(file, storages).load()
        tensors = _Unpickler(file, storages).load()
        for key in _Unpickler(file, storages).load():
            (count,) = struct.unpack("<q", file.read(8))
            number_type = np.dtype(_STORAGE_TYPES[storages[key].type_name])
            storages[key].numbers = np.frombuffer(file.read(count * number_type.itemsize), number_type)
    return dict(tensors)
