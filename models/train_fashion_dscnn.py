"""Train the default model, a small depthwise-separable CNN on Fashion-MNIST, and write what harness ships of it.

Run `python models/train_fashion_dscnn.py` (it took 18 minutes on two busy cores). It writes, next to itself,

* `fashion-dscnn/model.keras`: the float model,
* `fashion-dscnn/data.npz`: 2,000 test images with labels (200 per class) and 500 calibration images out of the training
  set (50 per class), all uint8.

Data: Fashion-MNIST (Zalando, MIT licence), from Debian's package `dataset-fashion-mnist` if it is installed, otherwise
downloaded by Keras. Only the final number uses the test images: epochs and settings are fixed in advance.
"""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent / "fashion-dscnn"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SEED = 20261124
CLASSES = 10
EPOCHS = 30
BATCH = 128
MIRRORED_SHARE = 0.5
TEST_PER_CLASS = 200
CALIBRATION_PER_CLASS = 50

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def load_fashion_mnist() -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return (train images (60000, 28, 28), labels (60000,)), (test images (10000, 28, 28), labels (10000,))."""
    if not DEBIAN_FOLDER.is_dir():
        (train_x, train_y), (test_x, test_y) = keras.datasets.fashion_mnist.load_data()
        return (train_x, train_y.astype(np.int64)), (test_x, test_y.astype(np.int64))

    def read(name: str, header_bytes: int) -> NDArray[np.uint8]:
        with gzip.open(DEBIAN_FOLDER / f"{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header_bytes)

    def part(name: str) -> tuple[Images, Labels]:
        images = read(f"{name}-images-idx3", 16).reshape(-1, 28, 28)
        return images, read(f"{name}-labels-idx1", 8).astype(np.int64)

    return part("train"), part("t10k")


def build() -> keras.Model:
    """Build the network: input (28, 28, 1) in [-1, 1], output 10 probabilities.

    GlobalAveragePooling instead of Flatten keeps the graph free of a constant reshape, so that a runtime may resize the
    batch and take many samples at once.
    """
    layers = keras.layers

    def normalised(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))

    image = x = layers.Input((28, 28, 1), name="image")
    x = normalised(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    for filters, strides in [(64, 2), (64, 1), (128, 2), (128, 1)]:
        x = normalised(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x))
        x = normalised(layers.Conv2D(filters, 1, use_bias=False)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="class")(x), name="fashion_dscnn")


def scaled(images: Images) -> NDArray[np.float32]:
    """Return (N, 28, 28, 1) float32 in [-1, 1]; the model's TOML file says the same to harness."""
    return images[..., None].astype(np.float32) / 127.5 - 1


class Augmentation(keras.utils.PyDataset):
    """Shuffled batches, each image shifted by up to two pixels and mirrored half of the time."""

    def __init__(self, images: NDArray[np.float32], labels: Labels) -> None:
        super().__init__()
        self.images, self.labels = images, labels
        self.random = np.random.default_rng(SEED)
        self.order = self.random.permutation(len(images))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / BATCH)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels]:
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        padded = np.pad(self.images[chosen], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
        down, right = self.random.integers(0, 3, 2)
        batch = padded[:, down : down + 28, right : right + 28]
        mirrored = self.random.random(len(batch)) < MIRRORED_SHARE
        batch[mirrored] = batch[mirrored, :, ::-1]
        return batch, self.labels[chosen]

    def on_epoch_end(self) -> None:
        """Shuffle anew."""
        self.order = self.random.permutation(len(self.images))


def balanced(labels: Labels, per_class: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the sorted indices of `per_class` random samples of every class."""
    chosen = [random.choice(np.flatnonzero(labels == label), per_class, replace=False) for label in range(CLASSES)]
    return np.sort(np.concatenate(chosen))


def main() -> None:
    """Train, print the test accuracy, write the files."""
    keras.utils.set_random_seed(SEED)
    (train_x, train_y), (test_x, test_y) = load_fashion_mnist()
    model = build()
    steps = EPOCHS * math.ceil(len(train_x) / BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(Augmentation(scaled(train_x), train_y), epochs=EPOCHS, verbose=2)
    _, accuracy = model.evaluate(scaled(test_x), test_y, verbose=0)
    print(f"parameters {model.count_params()}, top-1 on the {len(test_x)} test images {accuracy:.4f}")

    random = np.random.default_rng(SEED)
    test = balanced(test_y, TEST_PER_CLASS, random)
    calibration = balanced(train_y, CALIBRATION_PER_CLASS, random)
    subset_accuracy = float((model.predict(scaled(test_x[test]), verbose=0).argmax(1) == test_y[test]).mean())
    print(f"top-1 on the {len(test)} shipped test images {subset_accuracy:.4f}")
    HERE.mkdir(exist_ok=True)
    model.save(HERE / "model.keras")
    np.savez_compressed(
        HERE / "data.npz",
        test_images=test_x[test],
        test_labels=test_y[test].astype(np.uint8),
        calibration_images=train_x[calibration],
    )


if __name__ == "__main__":
    main()
