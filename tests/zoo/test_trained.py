"""Recipes that train, on the networks of the zoo that choose among classes: the file computes what was trained.

They train for one epoch on a few images. Whether they learn is asked elsewhere; here, whether every step takes every
kind of layer, and whether the file answers as the trained Keras network does. With `-m slow` each network gets one
recipe, in turn; with `-m exhaustive` all the others, which takes an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workbench
from workbench import run_on_host, signal_to_noise_db

from harness.compression.recipes import find_recipe
from harness.compression.sources.load import convert
from harness.errors import CompressionError
from harness.spec.recipe import Recipe, Step

NETWORKS = (
    *("plain_convolutions", "depthwise_separable", "inverted_residual", "squeeze_excite_hard_swish"),
    *("hard_swish_by_hand", "swish", "residual", "dense_blocks", "parallel_branches", "grouped_convolution"),
    *("depth_multiplier", "odd_shapes", "convolution_1d", "convolution_3d", "leaky_activations"),
    *("saturating_activations", "gelu_mixer", "group_normalization", "normalized_input", "scalar_arithmetic"),
    *("reductions_and_slices", "nearly_dead_channels", "uneven_channels", "without_biases"),
    *("bytes_in", "nested_backbone", "mixed_precision", "lstm", "unrolled_gru", "simple_rnn", "frames_over_time"),
    *("image_patches_with_attention", "dense_only"),
)
"""Those with one input of numbers and one answer among classes: what training images and labels can be given for."""
RECIPES = (
    *("qat-int8", "qat-int4", "qat-int3", "prune80-int8-sparse", "prune-2of4", "channels50-int8"),
    *("cluster16-int8", "low-rank", "distil-half-int8", "pcqat-int8", "pqat-int4"),
)
"""Every technique, and every order of techniques, of the built-in recipes."""
FLOAT = ("prune-2of4", "low-rank")
"""End in floats."""
FLOAT_DB, INTEGER_DB = 80.0, 15.0
"""How far the error of an answer must be below the answer."""
SETTINGS: dict[str, dict[str, Any]] = {"channel-pruning": {"multiple": 2}, "low-rank": {"energy": 0.6}}
"""By technique, what networks as small as these need."""
REFUSALS = (
    *("has no layer that two thinner ones could replace", "cannot get by with", "cannot have 60 % zeros"),
    "has channels that could be removed",
)
"""What a network can be too small or too special for, in the words of the error."""


def _cases() -> Iterator[Any]:
    for place, name in enumerate(NETWORKS):
        for number, recipe in enumerate(RECIPES):
            mark = pytest.mark.slow if number == place % len(RECIPES) else pytest.mark.exhaustive
            yield pytest.param(name, recipe, marks=mark, id=f"{name}-{recipe}")


def _shortened(recipe: Recipe) -> Recipe:
    """Return the recipe with one epoch a step."""
    steps = []
    for step in recipe.steps:
        epochs = {"epochs": 1} if "epochs" in step.settings else {}
        settings = {**step.settings, **epochs, **SETTINGS.get(step.technique, {})}
        steps.append(Step(technique=step.technique, settings=settings))
    return recipe.model_copy(update={"steps": tuple(steps)})


@pytest.mark.parametrize(("name", "recipe"), list(_cases()))
def test_the_file_answers_as_the_trained_network(name: str, recipe: str, tmp_path: Path) -> None:
    subject = workbench.with_training_images(workbench.prepare(name, tmp_path))
    trained: list[Any] = []

    def keep(model: Any) -> bytes:
        trained.append(model)
        return convert(model)

    try:
        state = subject.carry_out(_shortened(find_recipe(recipe)), convert=keep)
    except CompressionError as refused:
        assert any(words in str(refused) for words in REFUSALS), refused
        return
    content = state.graph()
    wanted = np.asarray(trained[-1](subject.inputs[0], training=False))
    (found,) = run_on_host(content, subject.inputs)
    assert signal_to_noise_db(wanted, found) >= (FLOAT_DB if recipe in FLOAT else INTEGER_DB)
