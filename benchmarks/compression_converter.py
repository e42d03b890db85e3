"""TFLiteConverter's own recipes on the default model, for `compression.py`: `... FOLDER [--only INDEX]`.

Eight in all: float, float16, dynamic range, full int8 with float and with int8 ends, int16 activations, and full int8
per tensor with float and with int8 ends. Each is a conversion from the Keras model, which is how the converter works.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

MODELS = Path(__file__).resolve().parent.parent / "models" / "fashion-dscnn"
NAMES = ("float", "float16", "dynamic", "int8", "int8-io", "int16x8", "int8-tensor", "int8-tensor-io")
CALIBRATION_SAMPLES = 200


def main() -> None:
    """Convert once, or eight times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    for index, name in enumerate(NAMES):
        if arguments.only in (None, index):
            (arguments.folder / f"{name}.tflite").write_bytes(convert(name))


def convert(name: str) -> bytes:
    """Return the model in one format, with a batch of one."""
    model = keras.models.load_model(MODELS / "model.keras", compile=False)
    image = keras.Input(batch_shape=(1, *model.inputs[0].shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, model(image, training=False)))
    if name != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if name.startswith("int"):
        converter.representative_dataset = samples
        wide = name == "int16x8"
        ops = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 if wide else ops.TFLITE_BUILTINS_INT8
        ]
        converter._experimental_disable_per_channel = name.startswith("int8-tensor")
        if name.endswith("-io"):
            converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def samples() -> Iterator[list[Any]]:
    """Yield calibration images as the model sees them."""
    images = np.load(MODELS / "data.npz")["calibration_images"][:CALIBRATION_SAMPLES]
    for image in images:
        yield [(image[None, ..., None] / np.float32(127.5) - np.float32(1)).astype(np.float32)]


if __name__ == "__main__":
    main()
