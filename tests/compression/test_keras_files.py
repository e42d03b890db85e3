"""Keras files that others bring: written by Keras 2, trained in mixed precision, or made to unpack without end."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.errors import CompressionError, FailureClass

pytestmark = pytest.mark.training
_DATA = Path(__file__).parent / "data"


def _load(path: Path) -> Any:
    from harness.compression.sources.keras import load_keras_file

    return load_keras_file(path, None)


def _graph_outputs(model: Any, values: NDArray[Any]) -> list[NDArray[Any]]:
    """Run the converted graph on one sample after the other, outputs in the signature's order."""
    from ai_edge_litert.interpreter import Interpreter

    from harness.compression.sources.load import convert

    run = Interpreter(model_content=convert(model)).get_signature_runner()
    (name,) = run.get_input_details()
    answers = [run(**{name: sample[None]}) for sample in values]
    return [np.concatenate([answer[key] for answer in answers]) for key in sorted(answers[0])]


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", ["image", "series"])
def test_keras_2_files_compute_what_keras_2_computed(name: str, suffix: str) -> None:
    """Written and answered by tf_keras (data/make_keras2_files.py); hard sigmoid has another slope in Keras 3."""
    values, *expected = np.load(_DATA / f"keras2-{name}.npz").values()
    model = _load(_DATA / f"keras2-{name}.{suffix}")
    answers = model.predict(values, verbose=0)
    for found in (answers if isinstance(answers, list) else [answers], _graph_outputs(model, values)):
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_slashes_in_layer_names_of_keras_2_are_taken(tmp_path: Path) -> None:
    import h5py

    values, expected = list(np.load(_DATA / "keras2-image.npz").values())[:2]
    path = tmp_path / "slashes.h5"
    path.write_bytes((_DATA / "keras2-image.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        text = file.attrs["model_config"]
        for layer in config["config"]["layers"]:
            name = layer["config"]["name"]
            text = text.replace(f'"{name}"', f'"net/{name}"')
        file.attrs["model_config"] = text
    answers = _load(path).predict(values, verbose=0)
    first = answers[0] if isinstance(answers, list) else answers
    assert first == pytest.approx(expected, abs=1e-5)


def _keras_2_file(path: Path, layers: list[dict[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "2.13.1"}')
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": layers}))
    return path


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"class_name": "LocallyConnected1D", "config": {"name": "local"}}, "local"),
        ({"class_name": "Discretization", "config": {"name": "bins"}}, "bins"),
        ({"class_name": "TFOpLambda", "config": {"name": "write", "function": "io.write_file"}}, "tf.io.write_file"),
        ({"class_name": "TFOpLambda", "config": {"name": "x", "function": "math.__loader__.load"}}, "__loader__"),
    ],
)
def test_what_keras_3_lacks_is_named(tmp_path: Path, layer: dict[str, Any], says: str) -> None:
    with pytest.raises(CompressionError, match=f"saved by Keras 2.13.1.*{says}.*saved_model.save"):
        _load(_keras_2_file(tmp_path / "old.keras", [layer]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_mixed_precision_becomes_float32(tmp_path: Path, policy: str, suffix: str) -> None:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((12, 12, 3))
        nested = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(8, 3), layers.BatchNormalization()])
        x = layers.DepthwiseConv2D(3, dtype="float32")(nested(image))
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, dtype="mixed_bfloat16")(x))
        mixed = keras.Model(image, layers.Activation("softmax", dtype="float32")(layers.Dense(5)(x)))
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.save(tmp_path / f"mixed.{suffix}")
    model = _load(tmp_path / f"mixed.{suffix}")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    values = np.random.default_rng(1).normal(size=(3, 12, 12, 3)).astype(np.float32)
    (found,) = _graph_outputs(model, values)
    assert found == pytest.approx(mixed.predict(values, verbose=0), abs=4e-3), "within bfloat16's rounding"
    for one, other in zip(model.get_weights(), mixed.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    """The directory of the archive says how much; nothing is unpacked to find out."""
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(1000))
        archive.filelist[0].file_size = 3_000_000_000
    with pytest.raises(CompressionError, match="3000000000 bytes") as caught:
        _load(path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_arrays_without_end_in_hdf5_are_refused(tmp_path: Path, suffix: str) -> None:
    import h5py

    weights, path = tmp_path / "model.weights.h5", tmp_path / f"bomb.{suffix}"
    with h5py.File(weights, "w") as file:
        file.create_dataset("kernel", (30_000, 30_000), "f4")
    if suffix == "h5":
        weights.rename(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(weights, weights.name)
    with pytest.raises(CompressionError, match="3600000000 bytes"):
        _load(path)


def test_weights_without_a_network_are_refused_with_advice(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(CompressionError, match=r"weights alone.*save the whole model"):
        _load(tmp_path / "only.weights.h5")
