"""Reading PyTorch's files without PyTorch, and without running what is in them."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.compression.sources.torch_state_dict import read_state_dict

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


class FloatStorage:
    """Stands for torch.FloatStorage in the files that the tests write."""


class Tensor:
    """Pickles as torch's tensors do."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (offset, shape, strides)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (StorageReference(), *self.arguments, False, collections.OrderedDict())


class StorageReference:
    """Pickles as a persistent reference to the storage `0`."""


class TorchPickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return ("storage", FloatStorage, "0", "cpu", 6) if isinstance(value, StorageReference) else None


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let pickle find the names that torch's files hold."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = FloatStorage
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    yield


def _write(path: Path, state: object, *, old_layout: bool) -> Path:
    if old_layout:
        with path.open("wb") as file:
            for header in (0x1950A86A20F9469CFC6C, 1001, {}):
                pickle.dump(header, file, 2)
            TorchPickler(file, 2).dump(state)
            pickle.dump(["0"], file, 2)
            file.write(struct.pack("<q", 6) + WEIGHTS.tobytes())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            with archive.open("archive/data.pkl", "w") as file:
                TorchPickler(file, 2).dump(state)
            archive.writestr("archive/data/0", WEIGHTS.tobytes())
    return path


@pytest.mark.parametrize("old_layout", [True, False])
def test_tensors_come_back_with_shape_and_strides(tmp_path: Path, old_layout: bool) -> None:
    state = collections.OrderedDict(
        whole=Tensor(0, (2, 3), (3, 1)), transposed=Tensor(0, (3, 2), (1, 3)), tail=Tensor(4, (2,), (1,)), note="text"
    )
    tensors = read_state_dict(_write(tmp_path / "m.pth", state, old_layout=old_layout))
    assert tensors.keys() == {"whole", "transposed", "tail"}
    np.testing.assert_array_equal(tensors["whole"], WEIGHTS)
    np.testing.assert_array_equal(tensors["transposed"], WEIGHTS.T)
    np.testing.assert_array_equal(tensors["tail"], [4, 5])


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_layout", [True, False])
def test_code_in_the_file_is_refused(tmp_path: Path, old_layout: bool) -> None:
    path = _write(tmp_path / "evil.pth", {"w": Bomb(tmp_path / "it-ran")}, old_layout=old_layout)
    with pytest.raises(ValueError, match="mkdir is refused"):
        read_state_dict(path)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "tensor", [Tensor(0, (7,), (1,)), Tensor(6, (1,), (1,)), Tensor(0, (2, 3), (6, 1)), Tensor(-1, (1,), (1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(ValueError, match="beyond its storage"):
        read_state_dict(_write(tmp_path / "m.pth", {"w": tensor}, old_layout=False))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.pth is not a plain PyTorch state_dict"):
        read_state_dict(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.pth", {"w": Tensor(0, (2, 3), (3, 1))}, old_layout=True)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a plain PyTorch state_dict"):
        read_state_dict(path)
