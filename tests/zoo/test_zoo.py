"""Every recipe that needs no training, on every network of the zoo: the variant still is the network.

What is right comes from elsewhere: Keras's own answers, and the int8 of TensorFlow's converter on the same samples.
The official TensorFlow Lite 2.14.1 must agree with this host's newer runtime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import networks
import pytest
import workbench
from workbench import Subject, run_in_2_14, run_on_host, signal_to_noise_db

pytestmark = pytest.mark.slow

LEAST_DB = {"fp32": 80.0, "fp16": 45.0, "dynamic-int8": 20.0, "int16x8": 20.0}
"""By recipe: the error of an output must be this far below the output itself."""

HALF_DB = 50.0
"""Keras computes the answers of a network of mixed precision in float16 itself."""

INT8_RECIPES = ("int8", "int8-io")
BELOW_INT8_DB = {"int8-tensor": 12.0, "int4": 24.0}
"""By recipe, what coarser weights may cost, at 6 dB per bit: int4 has four bits fewer. With one scale per tensor, a
channel whose weights reach a quarter of the largest weight loses two bits."""
NOISE_DB = 3.0
"""Two int8 variants of one network differ by this much from rounding alone."""
GOOD_DB = 30.0
"""Above it, one int8 variant is no better than another."""

PRUNED = (
    *("plain_convolutions", "depthwise_separable", "transposed_convolution", "grouped_convolution"),
    *("shared_layers", "nested_backbone", "three_inputs_out_of_order"),
    *("convolution_1d", "convolution_3d"),
)
"""Pruned in Keras and converted once more, which takes seconds each.

Left out: networks of recurrent or attention layers, whose kernels are not pruned.
"""

OLD_RUNTIME_DB = {"fp32": 100.0, "fp16": 100.0, "dynamic-int8": 25.0, "int8": 28.0, "int16x8": 60.0}
"""By recipe, how far below the outputs two runtimes may differ: their integer kernels round differently."""
OLD_RUNTIME_SAMPLES = 3
"""An output of one number needs several samples to have any power; each costs one process."""
OLD_RUNTIME_CASES = [(recipe, "true") for recipe in OLD_RUNTIME_DB] + [("int8", "false"), ("int16x8", "false")]
"""Recipe, and whether with XNNPACK: without it, the built-in kernels of float are those of any runtime."""


@pytest.fixture(scope="module", params=list(networks.NETWORKS))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    yield workbench.prepare(request.param, tmp_path_factory.mktemp(request.param))


@cache
def _variant(subject: Subject, recipe: str) -> bytes:
    return subject.make(recipe)


@cache
def _converters_int8(subject: Subject) -> bytes:
    return workbench.convert_to_int8(subject)


def _quality_db(subject: Subject, content: bytes) -> list[float]:
    """Return the signal-to-noise ratio of each output against Keras's answers."""
    found = run_on_host(content, subject.inputs)
    return [signal_to_noise_db(wanted, output) for wanted, output in zip(subject.answers, found, strict=True)]


@pytest.mark.parametrize("recipe", list(LEAST_DB))
def test_a_variant_answers_as_keras_does(subject: Subject, recipe: str) -> None:
    quality = _quality_db(subject, _variant(subject, recipe))
    least = min(LEAST_DB[recipe], HALF_DB) if subject.name == "mixed_precision" else LEAST_DB[recipe]
    assert min(quality) >= least, quality


@pytest.mark.parametrize("recipe", INT8_RECIPES)
def test_int8_is_no_worse_than_the_converters(subject: Subject, recipe: str) -> None:
    if len(subject.inputs) > 1:
        pytest.skip("the converter gives its calibration samples to several inputs in another order")
    if subject.name == "lstm":
        pytest.skip("LiteRT cannot run what the converter makes of a loop in int8")
    found = _quality_db(subject, _variant(subject, recipe))
    yardstick = _quality_db(subject, _converters_int8(subject))
    for harness_db, converter_db in zip(found, yardstick, strict=True):
        assert harness_db >= min(converter_db - NOISE_DB, GOOD_DB), (found, yardstick)


@pytest.mark.parametrize("recipe", list(BELOW_INT8_DB))
def test_coarser_weights_cost_what_their_bits_are_worth(subject: Subject, recipe: str) -> None:
    found, int8 = (_quality_db(subject, _variant(subject, name)) for name in (recipe, "int8"))
    for coarse_db, int8_db in zip(found, int8, strict=True):
        assert coarse_db >= min(int8_db, GOOD_DB) - BELOW_INT8_DB[recipe] - NOISE_DB, (found, int8)


def test_pruning_without_training_zeroes_half_of_the_weights(subject: Subject) -> None:
    if subject.name not in PRUNED:
        pytest.skip("its kinds of layers are in a network that is pruned")
    models: list[Any] = []

    def keep() -> Any:
        models.append(subject.load())
        return models[-1]

    content = dataclasses.replace(subject, load=keep).make("prune50-untrained")
    (pruned,) = models
    zeros = total = 0
    for variable, before, after in zip(pruned.weights, subject.model.get_weights(), pruned.get_weights(), strict=True):
        assert not after[after != before].any()
        if variable.path.endswith("kernel"):
            zeros, total = zeros + int((after == 0).sum()), total + after.size
    assert abs(zeros / total - 0.5) < 0.02
    inputs = subject.inputs if len(subject.inputs) > 1 else subject.inputs[0]
    answers = pruned(inputs, training=False)
    wanted = answers if isinstance(answers, list) else [answers]
    for one, other in zip(wanted, run_on_host(content, subject.inputs), strict=True):
        assert signal_to_noise_db(one, other) >= LEAST_DB["fp32"]


@pytest.mark.official_tool
@pytest.mark.parametrize(("recipe", "xnnpack"), OLD_RUNTIME_CASES)
def test_2_14_computes_what_this_host_does(
    subject: Subject, recipe: str, xnnpack: str, official_tools: Path, tmp_path: Path
) -> None:
    if subject.name == "squeeze_excite_hard_swish" and xnnpack == "true" and recipe in ("fp32", "fp16", "int8"):
        pytest.xfail(
            "the tool's XNNPACK (November 2024) is newer than the delegate of 2.14.1 above it: together they crash on "
            "a convolution behind a MEAN that keeps its axes, in the float model too"
        )
    content = _variant(subject, recipe)
    inputs, answers = ([array[:OLD_RUNTIME_SAMPLES] for array in found] for found in (subject.inputs, subject.answers))
    here = run_on_host(content, inputs)
    there = run_in_2_14(official_tools, content, inputs, tmp_path, f"--use_xnnpack={xnnpack}")
    for wanted, new, old in zip(answers, here, there, strict=True):
        quality = signal_to_noise_db(wanted, new)
        assert signal_to_noise_db(new, old) >= min(OLD_RUNTIME_DB[recipe], quality - NOISE_DB)
        assert signal_to_noise_db(wanted, old) >= min(quality - NOISE_DB, GOOD_DB)
