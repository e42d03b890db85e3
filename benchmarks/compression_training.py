"""What training-time techniques lose on a MobileNetV2, next to published losses: `compression_training.py FOLDER`.

Trains MobileNetV2 (width 0.35, 32 x 32, of keras.applications) on Fashion-MNIST, keeps it in FOLDER, makes
variants of it with harness, and prints size and loss of each next to what others published of MobileNetV2 on ImageNet.
The tasks differ, so only the order of the losses can be compared. All 10,000 test images count.

Published: tensorflow-model-optimization's guides (clustering, pruning, quantization-aware training), TensorFlow Lite's
page on model optimization (int8 without training), AMC (He et al. 2018: 70 % of the multiply-adds, against width 0.75).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from harness.accuracy.output_check import proportion
from harness.compression.make import make_variant
from harness.errors import CompressionError
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.flatbuffer import read_graph
from harness.tflite.interpreter import interpret
from harness.tflite.tensors import encode

MODELS = Path(__file__).resolve().parent.parent / "models"
WIDTH, SIZE = 0.35, 32
BATCH, RATE, SEED = 128, 2e-3, 7
SPEC = """name = "mobilenet-v2-fashion"
[source]
kind = "keras"
path = "model.keras"
[data]
path = "data.npz"
[preprocessing]
scale = 0.00784313725490196
offset = -1.0
[training]
augmentation = { shift_pixels = 2, mirror = true }
[training.data]
kind = "numpy"
path = "train.npz"
"""


@dataclass(frozen=True)
class Case:
    """One recipe, and what was published of its kind."""

    recipe: Recipe
    published: str = ""


def _cases(epochs: int) -> list[Case]:
    """Return all cases; those that train do so for `epochs`, and channels that go for twice as many."""
    int8 = Step(technique="quantization", settings={"activations": "int8", "rounding": "error-aware"})
    learned8 = Step(technique="quantization", settings={"activations": "int8"})
    learned4 = Step(technique="quantization", settings={"weights": "int4", "activations": "int8"})
    rounded4 = {"weights": "int4", "activations": "int8", "scale": "least-error", "rounding": "error-aware"}

    def trained(technique: str, **settings: Any) -> Step:
        return Step(technique=technique, settings={"epochs": epochs, **settings})

    def case(name: str, published: str, *steps: Step) -> Case:
        return Case(Recipe(name=name, steps=steps), published)

    taught = {"teacher_share": 0.5, "temperature": 2.0, "learning_rate": RATE}
    long = {**taught, "epochs": 2 * epochs}
    return [
        case("fp32", ""),
        case("int8, untrained", "-8.2 (TensorFlow Lite)", int8),
        case("int8, QAT", "-0.8 (TFMOT)", trained("quantization-aware-training", learning_rate=5e-4), learned8),
        case("int4, untrained", "", Step(technique="quantization", settings=rounded4)),
        case("int4, QAT", "", trained("quantization-aware-training", weight_bits=4), learned4),
        case("50 % pruned", "-2.1 (TFMOT)", trained("pruning", sparsity=0.5, scope="lamp", **taught)),
        case("32 clusters", "-2.0 (TFMOT)", trained("clustering", clusters=32, learning_rate=5e-4)),
        case("70 % of multiply-adds", "-0.9 (AMC)", trained("channel-pruning", multiply_adds=0.7, **long)),
        case("width 0.75, taught", "-2.0 (AMC, untaught)", trained("distillation", width=0.75, **long)),
    ]


def main() -> None:
    """Train, compress, print the table, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the network and the variants are kept")
    parser.add_argument("--images", type=int, default=60_000, help="training images, of 60,000")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the float network")
    parser.add_argument("--recipe-epochs", type=int, default=4, help="epochs of each recipe that trains")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(MODELS))
    from train_fashion_dscnn import load_fashion_mnist

    (images, labels), test = load_fashion_mnist()
    if not (arguments.folder / "model.toml").is_file():
        _prepare(arguments.folder, images[: arguments.images], labels[: arguments.images], test, arguments.epochs)
    model = find_model(str(arguments.folder / "model.toml"))
    rows = list(_rows(model, _cases(arguments.recipe_epochs), _framed(test[0]), test[1], arguments.folder))
    _show(rows)
    settings = {"images": arguments.images, "epochs": arguments.epochs, "recipe_epochs": arguments.recipe_epochs}
    print(json.dumps({"benchmark": "compression_training", "rows": rows, **settings, "cores": os.cpu_count()}))


def _framed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (N, 28, 28) in a black frame and on three channels, (N, 32, 32, 3)."""
    margin = (SIZE - images.shape[1]) // 2
    framed = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    return np.repeat(framed[..., None], 3, axis=-1)


def _prepare(
    folder: Path,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    epochs: int,
) -> None:
    """Train the float network and write it, its data and its TOML file, that last."""
    import keras
    from train_fashion_dscnn import balanced

    keras.utils.set_random_seed(SEED)
    random = np.random.default_rng(SEED)
    framed = _framed(images)
    network = keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), alpha=WIDTH, weights=None, classes=int(labels.max()) + 1
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the default of 0.999 needs more steps than these
    steps = math.ceil(len(images) / BATCH)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps * epochs)),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    for epoch in range(epochs):
        order = random.permutation(len(images))
        down, right = random.integers(-2, 3, 2)
        shown = np.roll(framed[order], (down, right), axis=(1, 2))  # the frame is black, so what comes in is, too
        mirrored = random.random(len(order)) < 0.5
        shown[mirrored] = shown[mirrored, :, ::-1]
        loss = network.fit(_scaled(shown), labels[order], batch_size=BATCH, verbose=0).history["loss"][0]
        print(f"float network: epoch {epoch + 1} of {epochs}, loss {loss:.3f}", file=sys.stderr)
    network.save(folder / "model.keras")
    chosen = balanced(labels, 50, random)
    np.savez(folder / "train.npz", train_images=framed, train_labels=labels)
    np.savez(
        folder / "data.npz",
        calibration_images=framed[chosen],
        test_images=_framed(test[0][:2000]),
        test_labels=test[1][:2000],
    )
    (folder / "model.toml").write_text(SPEC)


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def _rows(
    model: ModelSpec, cases: list[Case], images: NDArray[np.uint8], labels: NDArray[np.int64], folder: Path
) -> Any:
    """Yield one row per case that can be made."""
    for case in cases:
        started = time.monotonic()
        try:
            variant = make_variant(model, case.recipe, cache=folder / "cache", observer=SilentObserver())
        except CompressionError as error:
            print(f"{case.recipe.name}: {error.failure.message}", file=sys.stderr)
            continue
        seconds = time.monotonic() - started
        content = variant.path.read_bytes()
        tensor = read_graph(content, name=case.recipe.name).inputs[0]
        scores = interpret(str(variant.path), [encode(_scaled(images), tensor)], 2)[0]
        found = proportion(int((scores.argmax(1) == labels).sum()), len(labels))
        row = {
            "recipe": case.recipe.name,
            "kb": len(content) / 1000,
            "zip_kb": len(gzip.compress(content, mtime=0)) / 1000,
            "top1": 100 * found.value,
            "low": 100 * found.low,
            "high": 100 * found.high,
            "seconds": seconds,
            "published": case.published,
        }
        print(f"{row['recipe']}: top-1 {row['top1']:.2f} %, {row['zip_kb']:.0f} kB", file=sys.stderr)
        yield row


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"MobileNetV2 {WIDTH} on Fashion-MNIST, {SIZE} x {SIZE}", box=box.SIMPLE_HEAD)
    table.add_column("variant")
    for column in ("kB", "zip kB", "top-1 %", "95 %", "change", "published change", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["recipe"],
            f"{row['kb']:.0f}",
            f"{row['zip_kb']:.0f}",
            f"{row['top1']:.2f}",
            f"{row['low']:.1f}..{row['high']:.1f}",
            f"{row['top1'] - rows[0]['top1']:+.2f}",
            row["published"],
            f"{row['seconds']:.0f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
