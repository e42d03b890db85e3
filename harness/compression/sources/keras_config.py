"""Rewrite what a Keras file says of its layers, so that today's Keras builds the network, in float32."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import TypeAlias

from harness.compression.sources.reading import conversion_failed, invalid_model, require_bounded, require_bounded_zip
from harness.tflite.library_types import JsonValue

Config: TypeAlias = dict[str, JsonValue]

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_OTHER_FLOATS = {"float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"}
"""Number formats to compute in, or policies of mixed precision: their weights are float32 already."""
_TYPES = ("dtype", "compute_dtype")


def loadable_copy(path: Path, folder: Path) -> Path:
    """Return `path`, or a copy in `folder` if the file is of Keras 2 or computes in another format than float32.

    Raises `CompressionError` for a file that would unpack to more than 2 GiB, or that holds no network.
    """
    import h5py

    if h5py.is_hdf5(path):
        return _copy_of_hdf5(path, folder)
    return _copy_of_zip(path, folder) if zipfile.is_zipfile(path) else path


def _copy_of_hdf5(path: Path, folder: Path) -> Path:
    import h5py

    with h5py.File(path) as file:
        _require_bounded_hdf5(file, path)
        text, version = (_text(file.attrs.get(key)) for key in ("model_config", "keras_version"))
    if not text:
        raise invalid_model(f"{path} holds weights alone, without the network: save the whole model, model.save(FILE).")
    old = json.loads(text)
    new = _rewritten(old, version or "1", path)
    if new == old and path.suffix in (".h5", ".hdf5"):
        return path
    copy = folder / "model.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(new)
    return copy


def _copy_of_zip(path: Path, folder: Path) -> Path:
    import h5py

    with zipfile.ZipFile(path) as archive:
        require_bounded_zip(archive, path)
        names = archive.namelist()
        if _WEIGHTS in names:
            with archive.open(_WEIGHTS) as weights, h5py.File(weights) as file:
                _require_bounded_hdf5(file, path)
        if _CONFIG not in names:
            return path
        old = json.loads(archive.read(_CONFIG))
        metadata = json.loads(archive.read(_METADATA)) if _METADATA in names else {}
        new = _rewritten(old, str(metadata.get("keras_version", "3")), path)
        if new == old and path.suffix == ".keras":
            return path
        copy = folder / "model.keras"
        with zipfile.ZipFile(copy, "w") as changed:
            for entry in archive.infolist():
                changed.writestr(entry.filename, json.dumps(new) if entry.filename == _CONFIG else archive.read(entry))
    return copy


def _rewritten(config: Config, version: str, path: Path) -> Config:
    if int(version.partition(".")[0]) < 3:  # noqa: PLR2004 - the version whose files need no change
        from harness.compression.sources.keras2 import UnknownLayerError, modern_config

        try:
            config = modern_config(config)
        except UnknownLayerError as error:
            raise conversion_failed(
                f"{path} was saved by Keras {version}, and Keras 3 has nothing for its {error}: load it in the old "
                "environment and export it, tf.saved_model.save(model, FOLDER), then compress the folder."
            ) from error
    changed: Config = _in_float32(config)
    return changed


def _in_float32(node: JsonValue) -> JsonValue:
    """Return a config with every layer's own number format set to float32; integers and text stay."""
    if isinstance(node, list):
        return [_in_float32(value) for value in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "DTypePolicyMap":
        return "float32"
    changed = {}
    for key, value in node.items():
        policy = value.get("config", {}).get("name") if key in _TYPES and isinstance(value, dict) else value
        is_float = key in _TYPES and isinstance(policy, str) and policy in _OTHER_FLOATS
        changed[key] = "float32" if is_float else _in_float32(value)
    return changed


def _require_bounded_hdf5(file: io.IOBase, path: Path) -> None:
    import h5py

    sizes: list[int] = []
    h5py.Group.visititems(file, lambda _, item: sizes.append(item.nbytes) if isinstance(item, h5py.Dataset) else None)
    require_bounded(sum(sizes), path)


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
