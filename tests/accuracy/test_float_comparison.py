"""Variants against the float model, output by output (promise H23). Right values come from NumPy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from results_examples import card

from harness.accuracy.float_comparison import FloatComparer
from harness.accuracy.float_limits import LIMITS, VariantKind, kind_of
from harness.accuracy.reference import HostOutputs
from harness.compression.recipes import builtin_recipes, step_settings
from harness.datasets.comparison import ComparisonInputs, InputKind, comparison_inputs
from harness.datasets.labelled import Samples
from harness.progress import SilentObserver
from harness.spec.model import Data, ModelSpec, Preprocessing, find_model, with_data
from harness.tflite.flatbuffer import read_graph
from harness.tflite.variant import FidelityOutcome, TensorType, Variant

DATA = Path(__file__).parent / "data"
MODEL = find_model("fashion-dscnn")
RANDOM = np.random.default_rng(5)
NUMBERS = RANDOM.normal(size=(60, 4)).astype(np.float32)
CLASSES = np.eye(5, dtype=np.float32)[np.arange(60) % 5] * 0.9 + np.float32(0.02)
SIGMOID = np.linspace(0, 1, 60, dtype=np.float32)[:, None]


def steps_of(recipe):
    found = builtin_recipes()[recipe]
    settings = [one.model_dump(mode="json") for one in step_settings(found, origin="test")]
    return tuple(
        {"technique": step.technique, "settings": one} for step, one in zip(found.steps, settings, strict=True)
    )


class Computed:
    """Stands for the host's interpreter: outputs by the variant's name."""

    def __init__(self, **outputs):
        self._outputs = outputs

    def outputs(self, variant, _samples):
        return tuple(self._outputs[variant.card.sha256])


def compare(floats, found, *, recipe="int8", inputs=InputKind.REAL, labels=None, types=None, names=None):
    """Compare lists of outputs, as if files had computed them."""
    tensors = [
        TensorType(name=f"out{place}", shape=(1, *array.shape[1:]), type=(types or {}).get(place, "float32"))
        for place, array in enumerate(floats)
    ]
    changes = {"sha256": "floats", "inputs": (TensorType(name="in", shape=(1, 2), type="float32"),)}
    exact = card("fp32").model_copy(update={**changes, "outputs": tuple(tensors)})
    own = [tensors[place].model_copy(update={"name": name}) for place, name in enumerate(names)] if names else tensors
    variant = exact.model_copy(update={"sha256": "found", "steps": steps_of(recipe), "outputs": tuple(own)})
    samples = Samples((np.zeros((len(floats[0]), 2), np.float32),), labels)
    comparer = FloatComparer(
        MODEL, Variant(Path("f"), exact), Computed(floats=floats, found=found), ComparisonInputs(inputs, samples)
    )
    return comparer.compared(Variant(Path("v"), variant)).card.fidelity


def noisy(values, decibels):
    noise = RANDOM.normal(size=values.shape)
    scale = np.sqrt(np.square(values).sum() / np.square(noise).sum() / 10 ** (decibels / 10))
    return (values + scale * noise).astype(np.float32)


def test_figures_are_those_of_plain_arithmetic():
    half = np.clip(NUMBERS, NUMBERS.min() / 2, NUMBERS.max() / 2)
    (one,) = compare([NUMBERS], [half]).outputs
    exact, found = NUMBERS.astype(float), half.astype(float)
    assert one.snr_db == pytest.approx(10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()))
    assert one.cosine == pytest.approx(np.corrcoef(exact.ravel(), found.ravel())[0, 1], abs=0.01)
    assert one.range_kept == pytest.approx(0.5)
    assert one.agreement is None


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "dynamic-int8", "int8", "int16x8", "int4"])
def test_each_kind_has_its_own_limit(recipe):
    limit_db = LIMITS[kind_of(card().model_copy(update={"steps": steps_of(recipe)}))].snr_db
    assert compare([NUMBERS], [noisy(NUMBERS, limit_db + 6)], recipe=recipe).outcome is FidelityOutcome.KEPT
    assert compare([NUMBERS], [noisy(NUMBERS, limit_db - 1)], recipe=recipe).outcome is FidelityOutcome.LOST


def test_every_shipped_recipe_has_a_kind():
    kinds = {name: kind_of(card().model_copy(update={"steps": steps_of(name)})) for name in builtin_recipes()}
    assert {name for name, kind in kinds.items() if kind is VariantKind.FLOAT} == {"fp32", "as-is"}
    assert kinds["int8-io"] is VariantKind.INT8
    assert kinds["int4-mixed"] is VariantKind.INT4
    assert {kinds[name] for name in ("qat-int8", "prune80", "prune80-int8-sparse", "distil-half")} == {
        VariantKind.CHANGED
    }


def test_promise_h23_one_bad_output_of_two_is_enough():
    clipped = np.clip(SIGMOID, 0.2, 0.5)
    found = compare([NUMBERS, SIGMOID], [NUMBERS, clipped])
    assert found.outcome is FidelityOutcome.LOST
    assert [bool(one.lost) for one in found.outputs] == [False, True]
    assert found.outputs[1].range_kept == pytest.approx(0.3, abs=1e-6)
    assert "out1: " in found.reason
    assert "30% of the range kept" in found.failure("int8").message
    assert found.worst.snr_db == found.outputs[1].snr_db


def test_outputs_are_matched_by_name_whatever_their_order():
    assert compare([NUMBERS, SIGMOID], [SIGMOID, NUMBERS], names=("out1", "out0")).outcome is FidelityOutcome.KEPT
    assert compare([NUMBERS, SIGMOID], [SIGMOID, NUMBERS]).outcome is FidelityOutcome.LOST


def test_one_bad_channel_of_many_is_found():
    """Of 64 equal channels, one with its sign turned still leaves 12 dB over all."""
    many = RANDOM.normal(size=(60, 64)).astype(np.float32)
    turned = many.copy()
    turned[:, 7] *= -1
    found = compare([many], [turned])
    assert found.worst.snr_db > LIMITS[VariantKind.INT8].snr_db
    assert "channel 7" in found.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("recipe", ["int8", "prune80"])
def test_what_is_not_finite_is_lost(bad, recipe):
    spoilt = NUMBERS.copy()
    spoilt[3, 1] = bad
    assert compare([NUMBERS], [spoilt], recipe=recipe).outcome is FidelityOutcome.LOST
    assert compare([spoilt], [NUMBERS], recipe=recipe).outcome is FidelityOutcome.KEPT


@pytest.mark.parametrize(
    "output",
    [
        np.zeros((8, 3), np.float32),
        np.full((8, 1), 7.5, np.float32),
        np.zeros((8, 0), np.float32),
        np.ones((1, 1), np.float32),
        np.arange(8, dtype=np.float32),
        np.full((2, 3), np.nan, np.float32),
    ],
)
def test_outputs_of_few_or_equal_values_are_compared_too(output):
    assert compare([output], [output.copy()]).outcome is FidelityOutcome.KEPT
    if np.isfinite(output).all() and output.size:
        assert compare([output], [output + 50]).outcome is FidelityOutcome.LOST


@pytest.mark.parametrize("inputs", list(InputKind))
def test_whole_numbers_are_compared_by_equality(inputs):
    ids = RANDOM.integers(0, 1000, (60, 1)).astype(np.float32)
    assert compare([ids], [ids], types={0: "int64"}, inputs=inputs).worst.agreement == 1
    other = compare([ids], [(ids + 1) % 1000], types={0: "int64"}, inputs=inputs)
    assert (other.outcome, other.worst.agreement, other.worst.snr_db) == (FidelityOutcome.LOST, 0, None)


def test_near_ties_of_the_float_model_count_as_equal_answers():
    even = np.full((60, 5), 0.2, np.float32) + RANDOM.uniform(-0.01, 0.01, (60, 5)).astype(np.float32)
    assert compare([even], [even[:, ::-1].copy()]).worst.agreement == 1
    assert compare([CLASSES], [np.roll(CLASSES, 1, axis=1)]).worst.agreement == 0


def test_changed_weights_are_judged_by_answers_and_accuracy_not_by_noise():
    labels = np.arange(60) % 5
    vague = (0.6 * CLASSES + 0.08).astype(np.float32)  # the same answers, far less sure
    assert compare([CLASSES], [vague], recipe="distil-half").outcome is FidelityOutcome.KEPT
    moved = CLASSES.copy()
    moved[::2] = np.roll(moved[::2], 1, axis=1)
    assert compare([CLASSES], [moved], recipe="distil-half").outcome is FidelityOutcome.LOST
    wrong_float = CLASSES.copy()
    wrong_float[::2] = np.roll(wrong_float[::2], 1, axis=1)
    kept = compare(
        [wrong_float], [CLASSES], recipe="distil-half", labels=labels
    )  # it answers better than the float model
    assert kept.outcome is FidelityOutcome.KEPT


def test_another_shape_or_number_of_outputs_is_lost():
    assert "shape (2,) instead of (4,)" in compare([NUMBERS], [NUMBERS[:, :2]]).reason
    assert "1 instead of 2" in compare([NUMBERS, SIGMOID], [NUMBERS], names=("out0",)).reason


# -- on files --


def file_variant(path, recipe="fp32"):
    content = path.read_bytes()
    facts = read_graph(content, name=path.name)
    changes = {"inputs": facts.inputs, "outputs": facts.outputs, "steps": steps_of(recipe)}
    return Variant(path, card(recipe).model_copy(update={**changes, "sha256": hashlib.sha256(content).hexdigest()}))


def with_turned_bias(path, folder):
    """Return a copy of a float file in which the largest bias of its first layer has another sign."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    layer = next(one for one in graph.operators if len(one.inputs) == 3)
    buffer = model.buffers[graph.tensors[layer.inputs[2]].buffer]
    bias = np.frombuffer(bytes(buffer.data), np.float32).copy()
    bias[np.abs(bias).argmax()] *= -1
    buffer.data = np.frombuffer(bias.tobytes(), np.uint8)
    target = folder / "broken.tflite"
    flatbuffer_utils.write_model(model, str(target))
    return target


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return HostOutputs(tmp_path_factory.mktemp("reference"))


def test_a_turned_bias_is_found_without_labels_and_without_data(reference, tmp_path):
    model = find_model(str(DATA / "pooled-float.tflite")).model_copy(update={"source": MODEL.source})
    comparer = FloatComparer(model, file_variant(DATA / "pooled-float.tflite"), reference)
    broken = file_variant(with_turned_bias(DATA / "pooled-float.tflite", tmp_path), "fp16")
    fidelity = comparer.compared(broken).card.fidelity
    assert (fidelity.outcome, fidelity.inputs) == (FidelityOutcome.LOST, "random")
    good = comparer.compared(file_variant(DATA / "pooled-int8.tflite", "int8")).card.fidelity
    assert good.outcome is FidelityOutcome.KEPT
    assert good.worst.snr_db > 15


def test_a_float_file_as_it_is_is_its_own_float_model(reference):
    floats = file_variant(DATA / "two-inputs.tflite")
    fidelity = FloatComparer(find_model(str(floats.path)), floats, reference).compared(floats).card.fidelity
    assert fidelity.outcome is FidelityOutcome.KEPT
    assert [output.range_kept for output in fidelity.outputs] == [1] * len(floats.card.outputs)


def test_a_comparison_is_seen_while_it_runs(reference):
    seen = []

    class Watcher(SilentObserver):
        def begin(self, name, total):
            seen.append(("begin", name, total))

        def end(self, name):
            seen.append(("end", name))

    floats = file_variant(DATA / "pooled-float.tflite")
    FloatComparer(find_model(str(floats.path)), floats, reference, observer=Watcher()).compared(floats)
    bar = f"{floats.name}: comparing with the float model"
    assert seen == [("begin", bar, 1), ("end", bar)]


def test_a_quantized_file_has_no_float_model(reference):
    variant = file_variant(DATA / "pooled-int8.tflite")
    fidelity = FloatComparer(find_model(str(variant.path)), None, reference).compared(variant).card.fidelity
    assert str(fidelity) == "not compared: no float model"
    assert fidelity.outcome is FidelityOutcome.NO_FLOAT_MODEL


def test_what_the_host_cannot_run_is_not_compared(reference, tmp_path):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes((DATA / "pooled-int8.tflite").read_bytes()[:3000])
    floats = file_variant(DATA / "pooled-float.tflite")
    variant = Variant(cut, file_variant(DATA / "pooled-int8.tflite", "int8").card.model_copy(update={"sha256": "cut"}))
    model = MODEL.model_copy(update={"data": None})
    fidelity = FloatComparer(model, floats, reference).compared(variant).card.fidelity
    assert fidelity.outcome is FidelityOutcome.FAILED
    assert "not compared: The host's interpreter cannot run" in fidelity.reason


# -- what both run on --


def model_with(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    data = Data(path=Path("data.npz"), licence="none", origin="test")
    return ModelSpec(
        name="tiny", source=MODEL.source, data=data, folder=tmp_path, preprocessing=Preprocessing(scale=0.5)
    )


def as_set(samples):
    """Return samples without their order."""
    return {sample.tobytes() for sample in samples}


def test_a_folder_of_photos_without_labels_is_compared_on(tmp_path):
    floats = file_variant(DATA / "pooled-float.tflite")
    images = RANDOM.integers(0, 256, (5, 14, 14), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    model = with_data(find_model(str(floats.path)), str(tmp_path), (0, 1))
    found = comparison_inputs(model, floats)
    assert (found.kind, len(found.samples), found.samples.labels) == (InputKind.CALIBRATION, 5, None)
    np.testing.assert_allclose(
        sorted(map(np.sum, found.samples.inputs[0])), sorted(map(np.sum, images / 255)), rtol=1e-5
    )


def test_several_inputs_are_compared_on_their_calibration_arrays(tmp_path):
    floats = file_variant(DATA / "two-inputs.tflite")
    arrays = {
        f"calibration_{tensor.title}": RANDOM.normal(size=(7, *tensor.shape[1:])).astype(np.float32)
        for tensor in floats.card.inputs
    }
    found = comparison_inputs(model_with(tmp_path, **arrays), floats)
    assert (found.kind, len(found.samples)) == (InputKind.CALIBRATION, 7)
    pairs = zip(*found.samples.inputs, strict=True)
    wanted = zip(*arrays.values(), strict=True)
    assert as_set(map(np.concatenate, pairs)) == as_set(map(np.concatenate, wanted))


def test_test_images_come_before_calibration_images_and_both_before_noise(tmp_path):
    floats = file_variant(DATA / "pooled-float.tflite")
    images = RANDOM.integers(0, 256, (9, 14, 14), np.uint8)
    data = {"calibration_images": images}
    found = comparison_inputs(model_with(tmp_path, **data), floats)
    assert (found.kind, len(found.samples), found.samples.labels) == (InputKind.CALIBRATION, 9, None)
    assert as_set(found.samples.inputs[0]) == as_set(images * np.float32(0.5))
    found = comparison_inputs(model_with(tmp_path, test_images=images[:4], **data), floats)
    assert (found.kind, len(found.samples)) == (InputKind.REAL, 4)
    noise = comparison_inputs(model_with(tmp_path, calibration_images=images[:, :5]), floats)
    assert noise.kind is InputKind.RANDOM
    assert 120 < noise.samples.inputs[0].max() <= 127.5
