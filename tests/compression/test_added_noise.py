"""The noise that each operator adds: against a network whose one coarse layer is known, and NumPy's own sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from harness.compression.accuracy_budget import keep_within, per_byte
from harness.compression.graph import quantizer
from harness.compression.graph.added_noise import added_noise
from harness.compression.graph.fidelity import output_snr_db
from harness.compression.graph.quantizer import FormatRule
from harness.compression.graph.ranges import measure_ranges
from harness.compression.judges import SnrJudge
from harness.tflite.flatbuffer import operator_scopes, signature_keys
from harness.tflite.weights import kernel_sizes

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def network() -> tuple[bytes, dict[str, Any]]:
    """Return a float graph of three dense layers, and samples; the second has one weight that is 300 times the rest."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(3)
    values = x = keras.Input((24,), batch_size=1)
    for name in ("first", "coarse", "last"):
        x = layers.Dense(24, name=name)(x)
    model = keras.Model(values, x)
    kernel, bias = model.get_layer("coarse").get_weights()
    kernel[0] *= 300  # of an input that hardly moves
    model.get_layer("coarse").set_weights([kernel, bias])
    first, bias = model.get_layer("first").get_weights()
    first[:, 0] /= 300
    model.get_layer("first").set_weights([first, bias])
    graph = quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert()))
    (key,) = signature_keys(graph)
    (name,) = Interpreter(model_content=graph).get_signature_runner(key).get_input_details()
    draws = np.random.default_rng(4).normal(size=(12, 1, 24)).astype(np.float32)
    return graph, {key: [{name: one} for one in draws]}


def _quantized(network: tuple[bytes, dict[str, Any]], *rules: FormatRule) -> bytes:
    graph, samples = network
    return quantizer.quantize(graph, list(rules), ranges=measure_ranges(graph, samples)["extremes"])


def test_the_layer_with_coarse_weights_adds_most(network: tuple[bytes, dict[str, Any]]) -> None:
    graph, samples = network
    found = added_noise(graph, _quantized(network, FormatRule("int8", "int16")), samples)
    assert list(found) == operator_scopes(graph)
    assert "coarse" in max(found, key=found.__getitem__)


def test_the_noise_of_a_layer_that_alone_is_coarse_is_that_of_its_output(network: tuple[bytes, dict[str, Any]]) -> None:
    graph, samples = network
    (last,) = (scope for scope in operator_scopes(graph) if "coarse" not in scope and "first" not in scope)
    made = _quantized(network, FormatRule("float"), FormatRule("int8", "int8", match=f"^{last}$"))
    found = added_noise(graph, made, samples)
    (snr_db,) = output_snr_db(graph, made, {key: sets[:8] for key, sets in samples.items()})
    assert sum(found.values()) == found[last]
    assert 10 * np.log10(1 / found[last]) == pytest.approx(snr_db, abs=0.1)


def test_unlabelled_outputs_reach_the_signal_to_noise_that_is_asked_for(network: tuple[bytes, dict[str, Any]]) -> None:
    graph, samples = network
    rules = [FormatRule("int8", "int8")]
    (before_db,) = output_snr_db(graph, _quantized(network, *rules), samples)
    order = per_byte(added_noise(graph, _quantized(network, *rules), samples), kernel_sizes(graph))
    judge = SnrJudge(before_db + 3, graph, samples)
    kept = keep_within(lambda rules: _quantized(network, *rules), rules, order, judge, progress=lambda *_: None)
    (after_db,) = output_snr_db(graph, _quantized(network, *kept.rules), samples)
    assert kept.verdict.within
    assert after_db >= before_db + 3
    assert 0 < len(kept.reverted) < 3
