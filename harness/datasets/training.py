"""The labelled images that techniques train on, from each kind of source, split into training and validation."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.arrays import ArraysUnreadableError, class_labels, read_arrays
from harness.datasets.images import ImageFiles, find_images
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import KerasDataset, ModelSpec, NumpyFile, Preprocessing, TfdsDataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    Labels = NDArray[np.int64]

SPLIT_SEED = 20
"""Seeds the split alone, so that every technique holds back the same images."""

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_DIGEST_LETTERS = 16


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, height, width, channels) uint8 with their classes (N,), counted from 0."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    def chosen(self, indices: NDArray[np.integer[Any]]) -> LabelledImages:
        """Return some of them."""
        return LabelledImages(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and what is held back."""

    training: LabelledImages
    validation: LabelledImages
    sha256: str


def as_input(images: Images, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return images (N, height, width, channels) as float32 in the model's range."""
    import numpy as np

    values = images.astype(np.float32) * np.float32(preprocessing.scale) + np.float32(preprocessing.offset)
    return np.asarray(values, np.float32)


def describe_training_data(model: ModelSpec) -> str:
    """Say in one line what is trained on, without reading images. Raises `CompressionError` when there is nothing."""
    if model.training is None:
        raise _problem(
            f"Model {model.name!r} has no training data, which this recipe needs. Write a TOML file for the model, "
            "with [training.data] (see docs/techniques.md, Training)."
        )
    source = model.training.data
    if isinstance(source, KerasDataset | TfdsDataset):
        return f"{source.kind} {source.name}"
    path = model.locate(source.path)
    try:
        if isinstance(source, NumpyFile):
            return f"{path.name} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})"
        found = _image_folder(path)
        return " ".join([f"{path.name}: {len(found)} images (SHA-256 {found.sha256}).", *found.notes])
    except OSError as error:
        raise _problem(f"{path}: the training data cannot be read ({error.strerror}).") from error


def load_training_data(model: ModelSpec, input_shape: tuple[int, ...], *, limit: int | None = None) -> TrainingData:
    """Return the split data for a model whose input is (height, width, channels). Raises `CompressionError`.

    `limit` keeps this many training images, chosen at random by a fixed seed.
    """
    import numpy as np

    describe_training_data(model)
    assert model.training is not None  # noqa: S101 - just described
    every = _checked(_load(model, input_shape), model, input_shape)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(every))
    held_back = max(1, round(model.training.validation_share * len(every)))
    training = order[held_back:] if limit is None else order[held_back : held_back + limit]
    digest = hashlib.sha256(every.images.tobytes() + every.labels.tobytes()).hexdigest()
    return TrainingData(every.chosen(training), every.chosen(order[:held_back]), digest[:_DIGEST_LETTERS])


def _load(model: ModelSpec, input_shape: tuple[int, ...]) -> tuple[Any, Any]:
    import numpy as np

    assert model.training is not None  # noqa: S101 - as above
    source = model.training.data
    if isinstance(source, KerasDataset):
        return _keras_dataset(source.name)
    if isinstance(source, TfdsDataset):
        return _tfds(source)
    path = model.locate(source.path)
    if isinstance(source, NumpyFile):
        return _numpy_file(path)
    found = _image_folder(path)
    try:
        return found.pixels(input_shape), np.array(found.labels)
    except ArraysUnreadableError as error:
        raise _problem(f"{path} {error}. Replace or remove that file.") from error


def _keras_dataset(name: str) -> tuple[Any, Any]:
    if name == "fashion_mnist" and _DEBIAN_FASHION_MNIST.is_dir():
        return _debian_fashion_mnist()
    import keras

    try:
        (images, labels), _ = getattr(keras.datasets, name).load_data()
    except Exception as error:  # downloads raise all kinds
        message = (
            f"Keras cannot download the data set {name}: {error}. Install Debian's package dataset-fashion-mnist for "
            "fashion_mnist, or name an .npz file in the model's TOML file under [training.data]."
        )
        raise _problem(message) from error
    return images, labels.reshape(-1)


def _debian_fashion_mnist() -> tuple[Any, Any]:
    import numpy as np

    def read(name: str, header_bytes: int) -> Images:
        with gzip.open(_DEBIAN_FASHION_MNIST / f"train-{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header_bytes)

    return read("images-idx3", 16).reshape(-1, 28, 28), read("labels-idx1", 8)


def _tfds(source: TfdsDataset) -> tuple[Any, Any]:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise _problem("TensorFlow Datasets is not installed: pip install 'harness[tfds]'.") from None
    try:
        images, labels = tfds.as_numpy(tfds.load(source.name, split=source.split, as_supervised=True, batch_size=-1))
    except Exception as error:  # downloads, unknown names and data sets without labels raise all kinds
        raise _problem(f"TensorFlow Datasets cannot give {source.name}: {error}") from error
    return images, labels


def _image_folder(path: Path) -> ImageFiles:
    try:
        found = find_images(path)
    except ArraysUnreadableError as error:
        raise _problem(f"{path} {error}; it must be a folder with one folder of images per class.") from error
    if not found.labels:
        raise _problem(f"{path} has no folders in it; it must be a folder with one folder of images per class.")
    return found


def _numpy_file(path: Path) -> tuple[Any, Any]:
    wanted = ("train_images", "train_labels")
    try:
        arrays = read_arrays(path, wanted)
        return arrays["train_images"], class_labels(arrays["train_labels"], "train_labels")
    except ArraysUnreadableError as error:
        raise _problem(f"{path} {error}; it must be a .npz file that holds {' and '.join(wanted)}.") from error


def _checked(found: tuple[Any, Any], model: ModelSpec, input_shape: tuple[int, ...]) -> LabelledImages:
    import numpy as np

    images, labels = found
    if images.ndim == len(input_shape):
        images = images[..., None]
    if images.shape[1:] != tuple(input_shape) or images.dtype != np.uint8:
        raise _problem(
            f"The training images of {model.name} are {images.dtype} of shape {images.shape[1:]}; "
            f"its input wants uint8 of shape {tuple(input_shape)}."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or len(images) < 2:  # noqa: PLR2004
        raise _problem(f"{model.name} has {len(images)} training images, but labels of shape {labels.shape}.")
    return LabelledImages(np.ascontiguousarray(images), labels.astype(np.int64))


def _problem(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
