"""A task that a tiny network learns in seconds: which quarter of an 8 x 8 image is bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZE = 8
CLASSES = 4
TRAINING_IMAGES = 1500
TEST_IMAGES = 400

MODEL_FILE = """
name = "quarters"
[source]
kind = "keras"
path = "quarters.keras"
[preprocessing]
scale = 0.00784313725490196
offset = -1.0
[data]
path = "data.npz"
licence = "none"
origin = "made by a test"
[training]
validation_share = 0.2
[training.data]
kind = "numpy"
path = "training.npz"
"""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Return noisy images (count, 8, 8, 1) uint8 with one bright quarter, and which it is."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    pixels = random.normal(90, 45, (count, SIZE, SIZE, 1))
    for index, label in enumerate(labels):
        row, column = 4 * (label // 2), 4 * (label % 2)
        pixels[index, row : row + 4, column : column + 4] += 45
    return pixels.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def write_model(folder: Path) -> Path:
    """Train a small residual network with batch normalization, write it with its data; return its TOML file."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = x = layers.Input((SIZE, SIZE, 1))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x)))
    branch = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    branch = layers.ReLU(6.0)(layers.BatchNormalization()(branch))
    branch = layers.BatchNormalization()(layers.Conv2D(16, 1, use_bias=False)(branch))
    x = layers.Flatten()(layers.AveragePooling2D(2)(layers.Add(name="joined")([x, branch])))
    x = layers.Dense(32, activation="relu")(x)
    network = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))
    pixels, labels = images(TRAINING_IMAGES, 1)
    network.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(pixels / 127.5 - 1, labels, epochs=6, batch_size=64, verbose=0)
    network.save(folder / "quarters.keras")
    test_pixels, test_labels = images(TEST_IMAGES, 2)
    np.savez(folder / "training.npz", train_images=pixels, train_labels=labels)
    np.savez(
        folder / "data.npz", test_images=test_pixels, test_labels=test_labels, calibration_images=images(100, 3)[0]
    )
    path = folder / "quarters.toml"
    path.write_text(MODEL_FILE)
    return path
