"""Ranges of activations: they depend on which samples there are, not on their order, and keep what decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_graphs import INPUT_SIZE, dense_graph

from harness.compression.calibration import CalibrationRequest, calibration_samples
from harness.compression.graph import quantizer
from harness.compression.graph.ranges import ERROR_POWERS, RULES, measure_ranges
from harness.spec.model import Data, ModelSpec, find_model

GRAPH = quantizer.prepare(dense_graph())
RANDOM = np.random.default_rng(4)
VALUES = RANDOM.normal(size=(60, INPUT_SIZE)).astype(np.float32)


def _model(folder: Path, **arrays: Any) -> ModelSpec:
    (folder / "net.tflite").write_bytes(GRAPH)
    np.savez(folder / "data.npz", **arrays)
    data = Data(path=(folder / "data.npz").absolute(), licence="none", origin="noise")
    return find_model(str(folder / "net.tflite")).model_copy(update={"data": data})


def _chosen(folder: Path, count: int, **arrays: Any) -> np.ndarray:
    samples = calibration_samples(_model(folder, **arrays), GRAPH, CalibrationRequest("data", count))
    return np.concatenate([sample["in"] for sample in samples])


@pytest.mark.parametrize("count", [10, 60, 200])
def test_order_of_the_data_changes_no_sample(tmp_path: Path, count: int) -> None:
    found = _chosen(tmp_path, count, calibration_images=VALUES)
    assert len(found) == min(count, len(VALUES))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(VALUES))
        assert np.array_equal(_chosen(tmp_path, count, calibration_images=VALUES[order]), found)


@pytest.mark.parametrize("one_hot", [False, True])
def test_samples_are_spread_over_the_classes(tmp_path: Path, one_hot: bool) -> None:
    labels = np.repeat([0, 1, 2], [50, 8, 2])
    given = np.eye(3)[labels] if one_hot else labels
    found = _chosen(tmp_path, 12, calibration_images=VALUES, calibration_labels=given)
    places = [int(np.flatnonzero((row == VALUES).all(1))[0]) for row in found]
    assert np.bincount(labels[places]).tolist() == [5, 5, 2]


@pytest.mark.parametrize("rule", RULES)
def test_inputs_and_outputs_keep_the_extremes_of_all_samples(rule: str) -> None:
    samples = [{"in": row[None]} for row in VALUES]
    expected = {"in": VALUES, "out": VALUES @ _weights().T}
    for order in (samples, samples[::-1]):
        ranges = measure_ranges(GRAPH, {quantizer.SIGNATURE: order})[rule]
        assert ranges.keys() == expected.keys()
        for name, values in expected.items():
            assert ranges[name]["min"] == pytest.approx(values.min(), rel=1e-5)
            assert ranges[name]["max"] == pytest.approx(values.max(), rel=1e-5)


def _weights() -> np.ndarray:
    from harness.tflite.weights import weights

    return weights(GRAPH)["weights"].values


INNER = np.random.default_rng(1).standard_t(4, (50, 2000)).astype(np.float32)
"""Values with heavy tails; one sample is ten times as large as the others."""
INNER[7] *= 10


@pytest.fixture(scope="module")
def inner_ranges() -> dict[str, dict[str, tuple[float, float]]]:
    """Ranges by rule of a network whose inner tensors are 2 * INNER and its halves, which softmax reads."""
    import keras
    import tensorflow as tf

    image = keras.Input((2000,), batch_size=1)
    inner = keras.layers.LeakyReLU(0.999, name="inner")(image * 2.0)
    few = keras.layers.Dense(20, kernel_initializer="ones", name="few")(inner)
    logits = keras.layers.Reshape((40, 50))(inner * 0.5)
    network = keras.Model(image, [keras.layers.Softmax()(logits), keras.layers.Dense(3)(few)])
    graph = quantizer.prepare(bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert()))
    from ai_edge_litert.interpreter import Interpreter

    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    samples = [{name: image[None]} for image in INNER]
    found = [measure_ranges(graph, {quantizer.SIGNATURE: order}) for order in (samples, samples[::-1])]
    assert found[0] == found[1]
    return {
        rule: {tensor: (ends["min"].item(), ends["max"].item()) for tensor, ends in ranges.items()}
        for rule, ranges in found[0].items()
    }


def _doubled(ranges: dict[str, dict[str, tuple[float, float]]], rule: str) -> tuple[float, float]:
    """Return the range of 2 * INNER."""
    (name,) = (
        name for name, ends in ranges["extremes"].items() if ends == pytest.approx((2 * INNER.min(), 2 * INNER.max()))
    )
    return ranges[rule][name]


@pytest.mark.training
def test_means_end_at_the_means_of_the_extremes_of_samples(inner_ranges: Any) -> None:
    expected = (2 * INNER.min(axis=1).astype(np.float64).mean(), 2 * INNER.max(axis=1).astype(np.float64).mean())
    assert _doubled(inner_ranges, "mean") == pytest.approx(expected, rel=1e-6)


@pytest.mark.training
@pytest.mark.parametrize("rule", ["error-2", "error-1.5"])
def test_no_other_range_has_much_less_error(inner_ranges: Any, rule: str) -> None:
    """By brute force: values are cut off and rounded to 256 steps, one of which is zero."""

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        zero = np.round(low / step)
        codes = np.clip(np.round(2.0 * INNER / step), zero, zero + 255)
        return float((np.abs(codes * step - 2.0 * INNER) ** ERROR_POWERS[rule]).sum())

    whole = _doubled(inner_ranges, "extremes")
    lows, highs = (np.linspace(0.02, 1, 50) * end for end in whole)
    least = min(error(low, high) for low in lows for high in highs)
    found = error(*_doubled(inner_ranges, rule))
    assert found < 0.9 * error(*whole)
    assert found < 1.03 * least


@pytest.mark.training
def test_midway_lies_between_means_and_least_errors(inner_ranges: Any) -> None:
    both = [_doubled(inner_ranges, rule) for rule in ("mean", "error-2")]
    assert _doubled(inner_ranges, "midway") == pytest.approx(np.mean(both, axis=0), rel=1e-6)


@pytest.mark.training
@pytest.mark.parametrize("rule", RULES)
def test_logits_and_tensors_of_few_values_keep_their_extremes(inner_ranges: Any, rule: str) -> None:
    inner = 2.0 * INNER.astype(np.float64) * np.where(INNER < 0, 0.999, 1)
    for values, count in ((INNER, 1), (inner / 2, 2), (inner.sum(axis=1), 1)):
        ends = pytest.approx((values.min(), values.max()), rel=1e-4)
        assert sum(found == ends for found in inner_ranges[rule].values()) == count


@pytest.mark.parametrize(("kind", "given", "taken"), [("uint8", 200, 200), ("int8", -3.6, -4), ("int32", 70000, 70000)])
def test_samples_have_the_type_of_their_input(kind: str, given: float, taken: int) -> None:
    from harness.compression.calibration import in_type

    found = in_type(np.full((2, 3), given), np.dtype(kind).type)
    assert found.dtype == kind
    assert (found == taken).all()


@pytest.mark.training
@pytest.mark.parametrize("activations", ["int8", "int16"])
@pytest.mark.parametrize("hidden", [-1e9, -2.4e38, np.finfo(np.float32).min])
def test_masked_scores_get_no_weight_and_others_keep_theirs(activations: Any, hidden: float) -> None:
    """A mask stands for minus infinity; in the range, it would make one step larger than every score."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    mask = np.arange(INPUT_SIZE) % 3 > 0

    @tf.function(input_signature=[tf.TensorSpec((1, INPUT_SIZE), tf.float32, "scores")], autograph=False)
    def attend(scores: Any) -> Any:
        return tf.nn.softmax(tf.where(mask, scores * 1.5, np.float32(hidden)))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([attend.get_concrete_function()], attend)
    graph = quantizer.prepare(bytes(converter.convert()))
    (name,) = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    ranges = measure_ranges(graph, {quantizer.SIGNATURE: [{name: row[None]} for row in VALUES]})["extremes"]
    made = quantizer.quantize(graph, [quantizer.FormatRule("int8", activations)], ranges=ranges)
    runner = Interpreter(model_content=made).get_signature_runner()
    for row in VALUES[:5]:
        (found,) = runner(**{name: row[None]}).values()
        assert found[0][~mask].max() < 0.001
        assert np.abs(found - attend(row[None])).max() < 0.03
