"""Ranges by the rule whose outputs are nearer to the float model's; the right figures come from NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_graphs import INPUT_SIZE, dense_graph, static_int8

from harness.compression.graph import quantizer
from harness.compression.graph.fidelity import mean_snr_db, outputs
from harness.compression.graph.ranges import RULES
from harness.compression.judges import run_graph
from harness.compression.make import make_variant
from harness.progress import SilentObserver
from harness.spec.model import find_model, with_data
from harness.spec.recipe import Recipe, Step

GRAPH = quantizer.prepare(dense_graph())
INPUTS = np.random.default_rng(1).normal(size=(20, INPUT_SIZE)).astype(np.float32)
SAMPLES = [{"in": row[None]} for row in INPUTS]


def test_the_figure_is_that_of_numpy() -> None:
    made = static_int8(GRAPH, SAMPLES)
    exact, found = (run_graph(graph, INPUTS).astype(np.float64) for graph in (GRAPH, made))
    wanted = 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum())
    samples = {quantizer.SIGNATURE: SAMPLES}
    assert mean_snr_db(outputs(GRAPH, samples), made, samples) == pytest.approx(wanted, abs=0.01)
    assert mean_snr_db(outputs(GRAPH, samples), GRAPH, samples) == 100


def test_a_graph_that_does_not_run_is_the_worst() -> None:
    broken = dense_graph(custom_operator="MyOp")
    samples = {quantizer.SIGNATURE: SAMPLES}
    assert mean_snr_db(outputs(GRAPH, samples), quantizer.prepare(broken), samples) == -100


@pytest.mark.training
@pytest.mark.parametrize(("outlier", "best"), [(0.0, None), (40.0, "error-1.5")])
def test_rare_outliers_inside_are_cut_off_where_that_helps(tmp_path: Path, outlier: float, best: str | None) -> None:
    """One pixel in 100,000 makes an inner activation large that the next layer hardly reads."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(2)
    image = keras.Input((32, 32, 3), batch_size=1)
    x = layers.Conv2D(8, 1, activation="relu", use_bias=False)(image)
    network = keras.Model(image, layers.Conv2D(4, 3)(x))
    (tmp_path / "net.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    draw = np.random.default_rng(3)
    images = draw.normal(size=(40, 32, 32, 3)).astype(np.float32)
    if outlier:
        images[0, 0, 0] *= outlier
    np.savez(tmp_path / "data.npz", calibration_images=images)
    model = with_data(find_model(str(tmp_path / "net.tflite")), str(tmp_path / "data.npz"), None)
    step = Step(technique="quantization", settings={"weights": "int8", "activations": "int8"})
    card = make_variant(model, Recipe(name="mine", steps=(step,)), cache=tmp_path / "c", observer=SilentObserver()).card
    (facts,) = card.step_facts
    figures = facts["ranges_snr_db"]
    assert figures[facts["ranges"]] == max(figures.values())
    assert figures.keys() == set(RULES)
    if best:
        assert facts["ranges"] == best
