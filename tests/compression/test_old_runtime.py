"""Layers whose quantized form an older runtime refuses or computes wrongly: what the default target makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from official_runtime import run_official

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, Preprocessing, find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant

pytestmark = [pytest.mark.training, pytest.mark.official_tool]

NOISE = Recipe(
    name="noise",
    steps=(
        Step(
            technique="quantization",
            settings={"activations": "int8", "calibration": "random", "ranges": "extremes"},
        ),
    ),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """Dense layers and convolutions of all kinds, in one network."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = x = layers.Input((8, 8, 4))
    x = layers.Conv2DTranspose(6, 3, 2, padding="same")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.Conv2D(8, 3, activation="relu")(x))
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    network = keras.Model(image, layers.Dense(5)(x))
    # Channels of very different size: with the wrong scale for one, the outputs are far off.
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel * np.logspace(-1, 1, 5), bias])
    path = tmp_path_factory.mktemp("layers") / "layers.keras"
    network.save(path)
    return find_model(str(path)).model_copy(update={"preprocessing": Preprocessing(scale=2 / 255, offset=-1.0)})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def _outputs(tools: Path, variant: Variant, folder: Path, flag: str) -> np.ndarray:
    inputs = np.random.default_rng(5).uniform(-1, 1, variant.card.inputs[0].shape).astype(np.float32)
    done = run_official(tools, variant.path, inputs, folder, flag)
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "out.bin", np.float32)


@pytest.mark.parametrize("flag", ["--use_xnnpack=true", "--use_xnnpack=false"])
@pytest.mark.parametrize("name", ["fp16", "dynamic-int8", "noise"])
def test_2_14_computes_nearly_what_the_float_model_does(
    model: ModelSpec, cache: Path, official_tools: Path, tmp_path: Path, name: str, flag: str
) -> None:
    plain, variant = (
        make_variant(model, recipe, cache=cache, observer=SilentObserver())
        for recipe in (builtin_recipes()["fp32"], builtin_recipes().get(name, NOISE))
    )
    assert variant.card.operators["TRANSPOSE_CONV"] == 1
    wanted = _outputs(official_tools, plain, tmp_path, flag)
    assert np.abs(_outputs(official_tools, variant, tmp_path, flag) - wanted).max() < 0.1 * np.abs(wanted).max()
