"""Training images from each kind of source, and the split that holds some back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets import training as training_data
from harness.datasets.training import describe_training_data, load_training_data
from harness.errors import CompressionError
from harness.spec.model import KerasFile, ModelSpec, Training


def _model(folder: Path, **source: Any) -> ModelSpec:
    training = Training.model_validate({"data": source, "validation_share": 0.25})
    return ModelSpec(name="m", source=KerasFile(kind="keras", path=Path("m.keras")), training=training, folder=folder)


def _numpy_model(folder: Path, count: int = 40) -> ModelSpec:
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(folder / "t.npz", train_images=images, train_labels=np.arange(count) % 3)
    return _model(folder, kind="numpy", path="t.npz")


def test_the_split_is_the_same_for_all_and_never_overlaps(tmp_path: Path) -> None:
    model = _numpy_model(tmp_path)
    one, other = load_training_data(model, (4, 4, 1)), load_training_data(model, (4, 4, 1), limit=7)
    assert (len(one.training), len(one.validation), len(other.training)) == (30, 10, 7)
    held_back = set(one.validation.images[:, 0, 0, 0].tolist())
    assert held_back == set(other.validation.images[:, 0, 0, 0].tolist())
    assert not held_back & set(one.training.images[:, 0, 0, 0].tolist())
    assert (one.training.labels == one.training.images[:, 0, 0, 0] % 3).all(), "labels stay with their images"


def test_the_description_changes_with_the_file(tmp_path: Path) -> None:
    before = describe_training_data(_numpy_model(tmp_path))
    assert before.startswith("t.npz (SHA-256 ")
    assert describe_training_data(_numpy_model(tmp_path, count=41)) != before


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "numpy", "path": "gone.npz"}, "cannot be read"),
        ({"kind": "image-folder", "path": "gone"}, "cannot be read"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, source: dict[str, Any], says: str) -> None:
    with pytest.raises(CompressionError, match=says):
        load_training_data(_model(tmp_path, **source), (4, 4, 1))


@pytest.mark.training
def test_a_folder_of_images_is_resized_and_its_classes_count_in_alphabetical_order(tmp_path: Path) -> None:
    import tensorflow as tf

    for name, value in (("cats", 30), ("dogs", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(4):
            png = tf.io.encode_png(np.full((9, 12, 3), value, np.uint8)).numpy()
            (tmp_path / "images" / name / f"{index}.png").write_bytes(png)
    model = _model(tmp_path, kind="image-folder", path="images")
    data = load_training_data(model, (6, 8, 3))
    assert data.training.images.shape == (6, 6, 8, 3)
    assert (data.training.images[:, 0, 0, 0] == np.where(data.training.labels == 0, 30, 200)).all()
    before = describe_training_data(model)
    (tmp_path / "images" / "cats" / "0.png").unlink()
    assert describe_training_data(model) != before


def test_fashion_mnist_comes_from_debians_package(tmp_path: Path) -> None:
    if not training_data._DEBIAN_FASHION_MNIST.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load_training_data(_model(tmp_path, kind="keras-dataset", name="fashion_mnist"), (28, 28, 1))
    assert len(data.training) + len(data.validation) == 60_000
    assert np.bincount(np.concatenate([data.training.labels, data.validation.labels])).tolist() == [6000] * 10


@pytest.mark.training
def test_tensorflow_datasets(tmp_path: Path) -> None:
    model = _model(tmp_path, kind="tfds", name="mnist")
    if importlib.util.find_spec("tensorflow_datasets") is None:
        with pytest.raises(CompressionError, match=r"pip install 'harness\[tfds\]'"):
            load_training_data(model, (28, 28, 1))
        pytest.skip("the extra tfds is not installed; that this is told was tested")
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=20):  # the package is real, its downloads are not at hand
        data = load_training_data(model, (28, 28, 1))
    assert data.training.images.shape == (15, 28, 28, 1)
