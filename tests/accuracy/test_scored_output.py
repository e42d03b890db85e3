"""Which output is scored, by which limit, and what is said about labels that do not seem to fit."""

from pathlib import Path

import numpy as np
import pytest

from harness.accuracy.on_device import AccuracyTarget, CheckData, _label_doubt, measure_accuracy
from harness.accuracy.reference import HostOutputs
from harness.benchmark.registry import ToolRegistry
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.datasets.arrays import ArraysUnreadableError, class_labels
from harness.datasets.labelled import Dataset, choose_samples, class_scores, fit_dataset
from harness.devices.host import HostDevice
from harness.errors import UsageError
from harness.evaluation.task import find_task
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, TfliteFile
from harness.tflite.flatbuffer import GraphFacts
from harness.tflite.tensors import encode
from harness.tflite.variant import TensorType

RANDOM = np.random.default_rng(3)


def facts(outputs, inputs=((1, 8),)):
    """Return what is known about a graph with float inputs and outputs of these shapes."""
    named = [
        tuple(
            TensorType(name=f"{what}{place}", shape=shape, type="float32", signature_name=f"{what}_{place}")
            for place, shape in enumerate(shapes)
        )
        for what, shapes in (("in", inputs), ("out", outputs))
    ]
    return GraphFacts({}, {}, (), {}, *named)


def model(**settings):
    return ModelSpec(name="m", source=TfliteFile(kind="tflite", path=Path("m.tflite")), **settings)


def dataset(highest, shape=(8,), count=60):
    return Dataset(np.zeros((count, *shape), np.uint8), np.arange(count) % (highest + 1), 1.0, 0.0)


# -- which output --


@pytest.mark.parametrize(("wanted", "place"), [(0, 0), (2, 2), ("out_1", 1)])
def test_a_position_or_a_name_chooses_the_output(wanted, place):
    heads = facts([(1, 9), (1, 6), (1, 7)])
    assert fit_dataset(dataset(5), model(scored_output=wanted), heads).scored == place


@pytest.mark.parametrize("wanted", [3, "main"])
def test_an_output_that_is_not_there_is_refused(wanted):
    with pytest.raises(UsageError, match=r"no output .*") as refused:
        fit_dataset(dataset(5), model(scored_output=wanted), facts([(1, 6), (1, 6), (1, 6)]))
    assert "out_0, out_1, out_2" in refused.value.advice


@pytest.mark.parametrize("shape", [(1, 5), (1, 4, 4, 6), (1, 1)])
def test_an_output_that_is_no_score_per_class_is_refused(shape):
    with pytest.raises(UsageError, match="labels go up to 5, but the output out_0") as refused:
        fit_dataset(dataset(5), model(), facts([shape, (1, 6)]))
    assert "scored_output" in refused.value.advice


@pytest.mark.parametrize(("shape", "highest"), [((1, 1), 1), ((1,), 1), ((1, 1, 1, 6), 5), ((-1, 6), 5)])
def test_scores_of_any_rank_are_taken(shape, highest):
    assert fit_dataset(dataset(highest), model(), facts([shape])).scored == 0


def test_the_tool_and_the_host_score_the_output_that_keras_scores(official_tools, tmp_path):
    import keras

    from harness.compression.sources.load import convert

    keras.utils.set_random_seed(4)
    inputs = keras.Input((8,))
    middle = keras.layers.Dense(16, activation="tanh")(inputs)
    network = keras.Model(inputs, [keras.layers.Dense(size, activation="softmax")(middle) for size in (6, 6, 4, 6)])
    (tmp_path / "heads.tflite").write_bytes(convert(network))
    images = RANDOM.normal(size=(200, 8)).astype(np.float32)
    answers = network.predict(images, verbose=0)
    labels = np.where(RANDOM.random(200) < 0.7, answers[1].argmax(1), RANDOM.integers(0, 6, 200))  # noisy, of head 1
    source = TfliteFile(kind="tflite", path=Path("heads.tflite"))
    tool = ToolRegistry(tmp_path / "tools").add(official_tools)[0]
    device, reference = HostDevice(), HostOutputs(tmp_path / "reference")
    for place, scores in enumerate(answers):
        spec = ModelSpec(name="heads", source=source, folder=tmp_path, scored_output=place)
        variant = make_variant(spec, find_recipe("as-is"), cache=cache_folder(), observer=SilentObserver())
        fitted = fit_dataset(Dataset(images, labels % scores.shape[1], 1.0, 0.0), spec, variant.card)
        target = AccuracyTarget(device, tool, str(tool.path), variant, str(variant.path), "cpu", 1, 60.0)
        outcome = measure_accuracy(target, CheckData(choose_samples(fitted, 200), reference, variant))
        assert outcome.failure is None
        assert outcome.accuracy.samples == 200
        assert outcome.accuracy.top1.value == np.mean(scores.argmax(1) == labels % scores.shape[1])
        assert outcome.accuracy.float_top1 == outcome.accuracy.top1.value
        assert f"Scored output: output_{place}, number {place + 1} of 4." in outcome.note


# -- one value for two classes --


def test_a_sigmoid_is_cut_at_a_half_and_a_logit_at_zero():
    from keras.metrics import BinaryAccuracy

    logits = RANDOM.normal(size=(500, 1)).astype(np.float32)
    labels = RANDOM.integers(0, 2, 500)
    for values, limit in ((1 / (1 + np.exp(-logits)), 0.5), (logits, 0.0)):
        metric = BinaryAccuracy(threshold=limit)
        metric.update_state(labels[:, None], values)
        assert np.mean(class_scores(values).argmax(1) == labels) == pytest.approx(float(metric.result()))
    assert class_scores(np.float32([[0.5], [0.50001]])).argmax(1).tolist() == [0, 1]  # as Keras: above, not from


def test_the_float_model_decides_what_a_value_means():
    logits = np.float32([[0.2], [0.4], [0.9]])  # a variant that never answers no
    assert class_scores(logits, np.float32([[-1], [0.4], [0.9]])).argmax(1).tolist() == [1, 1, 1]
    assert class_scores(logits).argmax(1).tolist() == [0, 0, 1]


def test_quantized_probabilities_are_real_before_they_are_cut():
    tensor = TensorType(name="p", shape=(1, 1), type="int8", scale=1 / 256, zero_point=-128)
    assert encode(np.float32([[0.4], [0.6]]), tensor).tolist() == [[-26], [26]]  # cut at 0.5 as codes, all are no
    found = find_task("classification").compare(
        {"p": np.float32([[0.4], [0.6]])}, {"p": np.float32([[0.45], [0.7]])}, np.array([0, 1])
    )
    assert found.fidelity.top1.value == found.fidelity.float_top1.value == 1.0


# -- labels --


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1]),
        np.array([2, 0, 1], np.uint8),
        np.array([2.0, 0.0, 1.0]),
        np.array([[2], [0], [1]]),
        np.eye(3)[[2, 0, 1]],
        np.eye(3, dtype=bool)[[2, 0, 1]],
    ],
)
def test_labels_in_any_exact_form_are_classes(labels):
    found = class_labels(labels, "test_labels")
    assert found.dtype == np.int64
    assert found.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0.5, 1.0]), "not whole numbers from 0"),
        (np.array([-1, 1]), "not whole numbers from 0"),
        (np.array([np.nan, 1.0]), "not whole numbers from 0"),
        (np.array([[0.9, 0.1], [0.2, 0.8]]), "not one-hot"),
        (np.array([[1, 1], [0, 1]]), "not one-hot"),
        (np.array([[0, 0], [0, 1]]), "not one-hot"),
        (np.array(["a", "b"]), "no classes"),
        (np.zeros((2, 3, 4)), "not one label per sample"),
        (np.zeros(0), "no classes"),
    ],
)
def test_other_labels_are_refused_in_words(labels, says):
    with pytest.raises(ArraysUnreadableError, match=says):
        class_labels(labels, "test_labels")


# -- doubts --


def scores_for(answers, classes):
    return np.eye(classes, dtype=np.float32)[answers]


@pytest.mark.parametrize(("shift", "sign"), [(1, "[+] 1"), (-1, "- 1")])
def test_labels_that_are_shifted_by_one_are_noticed(shift, sign):
    labels = RANDOM.integers(1, 6, 200)
    noisy = np.where(RANDOM.random(200) < 0.3, RANDOM.integers(0, 7, 200), labels + shift)
    with_words = _label_doubt(scores_for(noisy, 7), labels)
    assert "shifted by one" in with_words
    assert sign.replace("[+]", "+") in with_words


def test_a_model_at_chance_is_noticed():
    labels = RANDOM.integers(0, 10, 400)
    assert "no better than chance among 10 classes" in _label_doubt(scores_for(RANDOM.integers(0, 10, 400), 10), labels)
    assert "class 3 to every sample" in _label_doubt(scores_for(np.full(400, 3), 10), labels)


@pytest.mark.parametrize("right", [0.25, 0.6, 1.0])
def test_a_model_that_has_learnt_anything_is_not_doubted(right):
    labels = RANDOM.integers(0, 10, 400)
    answers = np.where(RANDOM.random(400) < right, labels, RANDOM.integers(0, 10, 400))
    assert not _label_doubt(scores_for(answers, 10), labels)


def test_few_samples_cast_no_doubt():
    labels = np.arange(8) % 4
    assert not _label_doubt(scores_for((labels * 3 + 1) % 4, 4), labels)


# -- shapes --


@pytest.mark.parametrize(
    ("given", "takes", "becomes"),
    [
        ((60, 3), (1, 60, 3), (60, 3)),
        ((8, 8), (1, 8, 8, 1), (8, 8, 1)),
        ((8, 8, 3), (-1, 8, 8, 3), (8, 8, 3)),
        ((16,), (1, 16), (16,)),
        ((60,), (1, 60, 1), (60, 1)),
        ((5, 6, 7, 2), (1, 5, 6, 7, 2), (5, 6, 7, 2)),
    ],
)
def test_only_a_model_of_one_channel_adds_an_axis(given, takes, becomes):
    fitted = fit_dataset(dataset(1, given), model(), facts([(1, 2)], [takes]))
    assert choose_samples(fitted, 4).inputs[0].shape == (4, *becomes)


def test_other_shapes_are_refused_with_both_named():
    with pytest.raises(UsageError, match=r"samples of shape \(60, 3\), but the model takes \(60, 3, 2\)"):
        fit_dataset(dataset(1, (60, 3)), model(), facts([(1, 2)], [(1, 60, 3, 2)]))
