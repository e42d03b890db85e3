"""Small layers keep more precision where that costs next to no bytes, as in TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from harness.compression.make import make_variant
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, find_model, with_data
from harness.spec.recipe import Recipe, Step
from harness.tflite.weights import OUTPUT_CHANNEL_AXES

pytestmark = pytest.mark.training

STEM, MIDDLE, LAST = 3 * 3 * 3 * 8, 3 * 3 * 8 * 128, 128 * 512


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Three convolutions, the first with a third of a percent of the weights."""
    import keras
    import tensorflow as tf
    from keras import layers

    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(3)
    image = x = keras.Input((8, 8, 3), batch_size=1)
    for filters, size in ((8, 3), (128, 3), (512, 1)):
        x = layers.Conv2D(filters, size, activation="relu")(x)
    network = keras.Model(image, x)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    (folder / "net.tflite").write_bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    (folder / "peer.tflite").write_bytes(converter.convert())
    images = np.random.default_rng(4).integers(0, 256, (20, 8, 8, 3), np.uint8)
    np.savez(folder / "data.npz", calibration_images=images)
    return with_data(find_model(str(folder / "net.tflite")), str(folder / "data.npz"), (0, 1))


def _kernels(file: Path) -> dict[int, str]:
    """Return the type of each layer's kernel by its number of weights."""
    content = flatbuffer_utils.read_model(str(file))
    (main,) = content.subgraphs
    kinds = {getattr(schema.BuiltinOperator, name) for name in OUTPUT_CHANNEL_AXES}
    types = {number: name for name, number in vars(schema.TensorType).items()}
    found = [
        main.tensors[operator.inputs[1]]
        for operator in main.operators
        if content.operatorCodes[operator.opcodeIndex].builtinCode in kinds
    ]
    return {int(np.prod(kernel.shape)): types[kernel.type] for kernel in found}


def _made(model: ModelSpec, cache: Path, **settings: Any) -> Path:
    recipe = Recipe(name="mine", steps=(Step(technique="quantization", settings=settings),))
    return make_variant(model, recipe, cache=cache, observer=SilentObserver()).path


def test_dynamic_int8_leaves_float_what_tensorflows_converter_does(model: ModelSpec, tmp_path: Path) -> None:
    wanted = _kernels(Path(model.folder or ".") / "peer.tflite")
    assert wanted == {STEM: "FLOAT32", MIDDLE: "INT8", LAST: "INT8"}
    assert _kernels(_made(model, tmp_path, weights="int8")) == wanted
    every = _kernels(_made(model, tmp_path, weights="int8", keep_small_layers=False))
    assert set(every.values()) == {"INT8"}


def test_int4_leaves_small_layers_in_int8_and_int8_none_in_float(model: ModelSpec, tmp_path: Path) -> None:
    both = {"activations": "int8", "rounding": "error-aware"}
    assert _kernels(_made(model, tmp_path, weights="int4", **both)) == {STEM: "INT8", MIDDLE: "INT4", LAST: "INT4"}
    assert set(_kernels(_made(model, tmp_path, weights="int8", **both)).values()) == {"INT8"}


def test_an_exception_of_the_recipe_counts_more(model: ModelSpec, tmp_path: Path) -> None:
    exception = {"match": ".", "weights": "int8"}
    assert set(_kernels(_made(model, tmp_path, weights="int8", layers=[exception])).values()) == {"INT8"}
