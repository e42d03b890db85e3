"""Accuracy through a delegate: on the host, on virtual phones, through good and broken drivers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.accuracy.on_device import AccuracyTarget, CheckData, measure_accuracy
from harness.accuracy.output_check import (
    check_outputs,
    cosines,
    limits_for,
    max_abs_errors,
    proportion,
    same_label_hits,
    top_k_hits,
)
from harness.accuracy.reference import HostOutputs
from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import ToolSystem
from harness.compression.make import make_variant
from harness.compression.recipes import find_recipe
from harness.datasets.labelled import Dataset, Samples, choose_samples, load_dataset, random_samples
from harness.devices.adb.discovery import open_device
from harness.devices.host import HostDevice
from harness.errors import FailureClass, FailureError, UsageError
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.limits import OutputLimits
from harness.spec.model import Data, ModelSpec, TfliteFile, find_model
from harness.tflite.tensors import decode, encode, split_outputs
from harness.tflite.variant import TensorType

DATA = Path(__file__).parent / "data"
LIMITS = OutputLimits()


def variant_of(name):
    """Return one of the tiny models as a variant."""
    return make_variant(
        find_model(str(DATA / f"{name}.tflite")), find_recipe("as-is"), cache=cache_folder(), observer=SilentObserver()
    )


@pytest.fixture(scope="module")
def samples():
    with np.load(DATA / "samples.npz") as archive:
        images, labels = archive["test_images"], archive["test_labels"].astype(np.int64)
    return choose_samples(Dataset(images[..., None], labels, 2 / 255, -1.0), 200)


@pytest.fixture
def reference(tmp_path):
    return HostOutputs(tmp_path / "reference")


@pytest.fixture(scope="module")
def tools(official_tools, tmp_path_factory):
    registry = ToolRegistry(tmp_path_factory.mktemp("tools"))
    return {tool.system: tool for tool in registry.add(official_tools)}


def target_on(device, tool, name, delegate="cpu", timeout_s=60.0):
    variant = variant_of(name)
    path = device.push(variant.path)
    return AccuracyTarget(device, tool, device.push(tool.path), variant, path, delegate, 1, timeout_s)


# -- through the official tool --


@pytest.mark.official_tool
@pytest.mark.parametrize("name", ["pooled-float", "pooled-int8", "pooled-int8-io"])
def test_many_samples_go_through_one_process_on_the_host(tools, samples, reference, name):
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], name)
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("pooled-float")))
    assert outcome.failure is None, outcome
    assert outcome.samples_per_process == 200
    assert outcome.check.passed
    assert outcome.accuracy.samples == 200
    assert outcome.accuracy.top1.low < outcome.accuracy.top1.value < outcome.accuracy.top1.high
    assert abs(outcome.accuracy.top1.value - outcome.accuracy.float_top1) < 0.05
    assert outcome.accuracy.agreement.value > 0.9


@pytest.mark.official_tool
def test_promise_h14_the_limits_of_the_spec_decide(tools, samples, reference):
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], "pooled-float")
    limits = OutputLimits(floating={"max_relative_error": 0.125})
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("pooled-float"), limits))
    assert outcome.check.passed
    assert "a cosine of at least 0.99 and an error of at most 12%" in outcome.check.limits


@pytest.mark.virtual_phone
@pytest.mark.official_tool
@pytest.mark.parametrize("delegate", ["cpu", "cpu-builtin", "gpu"])
def test_a_phone_gives_what_the_host_gives(virtual_phone, tools, samples, reference, delegate):
    device = open_device(virtual_phone.serial)
    target = target_on(device, tools[ToolSystem.VIRTUAL_PHONE], "pooled-float", delegate)
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("pooled-float")))
    assert outcome.failure is None, outcome
    assert outcome.accuracy.top1.value == outcome.accuracy.float_top1
    assert outcome.check.cosine_min > 0.9999
    left = device.run(["ls", device.work_folder], timeout_s=10).stdout
    assert "outputs" not in left


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_promise_h14_a_broken_driver_is_caught_by_its_outputs(start_phone, official_tools, tools, samples, reference):
    phone = start_phone(vendor=official_tools, broken_gpu=True)
    target = target_on(open_device(phone.serial), tools[ToolSystem.VIRTUAL_PHONE], "pooled-float", "gpu")
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("pooled-float")))
    assert outcome.failure.failure_class is FailureClass.WRONG_OUTPUT
    assert not outcome.check.passed


@pytest.mark.official_tool
def test_a_batch_that_cannot_be_resized_falls_back_to_one_sample_a_process_and_says_so(tools, samples, reference):
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], "flatten-float")
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("flatten-float")))
    assert outcome.failure is None, outcome
    assert outcome.samples_per_process == 1
    assert outcome.accuracy.samples == 50
    assert "1 instead of 200 samples a process" in outcome.note


@pytest.mark.official_tool
def test_a_graph_that_mixes_its_batch_is_judged_by_single_samples(tools, reference):
    """A detector joins boxes of two scales after reshaping both to a batch of one: two samples mix their boxes."""
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], "detector-float")
    samples = random_samples(target.variant.card.inputs, count=6)
    outcome = measure_accuracy(target, CheckData(samples, reference, None))
    assert outcome.failure is None, outcome
    assert outcome.samples_per_process == 1
    assert outcome.check.samples == 6
    assert "6 samples, one per process: with 6 at once" in outcome.note


@pytest.mark.official_tool
def test_a_model_without_data_is_checked_on_random_inputs(tools, reference):
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], "two-inputs")
    inputs = random_samples(target.variant.card.inputs)
    outcome = measure_accuracy(target, CheckData(inputs, reference, None))
    assert outcome.failure is None, outcome
    assert outcome.check.passed
    assert outcome.accuracy is None


@pytest.mark.official_tool
def test_what_ran_elsewhere_is_said(tools, samples, reference):
    target = target_on(HostDevice(), tools[ToolSystem.LINUX], "pooled-float", "nnapi")
    outcome = measure_accuracy(target, CheckData(samples, reference, variant_of("pooled-float")))
    assert outcome.note == "The samples ran on cpu, so they prove nothing about nnapi."


@pytest.mark.virtual_phone
@pytest.mark.official_tool
def test_a_lost_device_is_a_value(virtual_phone, tools, samples, reference):
    device = open_device(virtual_phone.serial)
    target = target_on(device, tools[ToolSystem.VIRTUAL_PHONE], "pooled-float")
    gone = dataclasses.replace(target, device=type(device)(device._adb._client, "gone"))
    outcome = measure_accuracy(gone, CheckData(samples, reference, None))
    assert outcome.failure.failure_class is FailureClass.DEVICE_LOST


def test_the_host_cannot_run_a_broken_file_and_survives_it(samples, reference, tmp_path):
    whole = variant_of("pooled-float")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(whole.path.read_bytes()[:4000])
    card = whole.card.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(FailureError) as caught:
        reference.outputs(dataclasses.replace(whole, path=broken, card=card), samples)
    assert caught.value.failure.failure_class in (FailureClass.INVALID_MODEL, FailureClass.CRASHED)


def test_the_reference_is_computed_once(samples, reference):
    variant = variant_of("pooled-int8")
    first = reference.outputs(variant, samples)
    (file,) = (file for file in reference._folder.iterdir() if file.suffix == ".npz")
    before = file.stat().st_mtime_ns
    assert np.array_equal(first[0], reference.outputs(variant, samples)[0])
    assert file.stat().st_mtime_ns == before


# -- data --


def model_with(folder, **arrays_):
    np.savez(folder / "data.npz", **arrays_)
    source = TfliteFile(kind="tflite", path=Path("x.tflite"))
    return ModelSpec(name="m", source=source, data=Data(path=Path("data.npz"), licence="-", origin="-"), folder=folder)


IMAGES, LABELS = np.zeros((4, 8, 8), np.uint8), np.arange(4)


def test_the_shipped_data_is_balanced():
    dataset = load_dataset(find_model("fashion-dscnn"))
    assert list(np.bincount(dataset.test_labels)) == [200] * 10
    assert len(choose_samples(dataset, 500)) == 500


@pytest.mark.parametrize(
    "changes",
    [
        {"test_images": IMAGES.astype(str)},
        {"test_labels": LABELS[:3]},
        {"test_labels": LABELS - 1},
        {"test_labels": LABELS + 0.5},
        {"test_labels": np.ones((4, 3))},
        {"test_images": IMAGES[:0], "test_labels": LABELS[:0]},
        {"test_images": np.zeros(4, np.uint8)},
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path, changes):
    good = {"test_images": IMAGES, "test_labels": LABELS, "calibration_images": IMAGES}
    assert load_dataset(model_with(tmp_path, **good)) is not None
    with pytest.raises(UsageError, match=r"data\.npz"):
        load_dataset(model_with(tmp_path, **(good | changes)))


def test_files_that_are_no_data_are_refused(tmp_path):
    model = model_with(tmp_path, test_images=IMAGES)
    with pytest.raises(UsageError, match="test_labels"):
        load_dataset(model)
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="is no NumPy file"):
        load_dataset(model)
    (tmp_path / "data.npz").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        load_dataset(model)


# -- numbers --

INT8 = TensorType(name="x", shape=(1, 4), type="int8", scale=0.05, zero_point=-3)
FLOAT = TensorType(name="x", shape=(1, 4), type="float32")
VALUES = arrays(np.float32, (3, 4), elements=st.floats(-6, 6, width=32))


@given(VALUES)
def test_quantized_values_come_back_within_half_a_step(values):
    back = decode(encode(values, INT8), INT8)
    assert np.abs(back - values).max() <= 0.05 / 2 + 1e-5
    assert np.array_equal(decode(encode(values, FLOAT), FLOAT), values)


def test_values_beyond_the_range_are_clipped():
    assert list(encode(np.array([[1e9, -1e9]], np.float32), INT8)[0]) == [127, -128]


def test_outputs_of_the_wrong_size_are_wrong_outputs():
    for data in (b"", b"123", bytes(3 * 16)):
        with pytest.raises(FailureError) as caught:
            split_outputs(data, [FLOAT], [(4,)], 2)
        assert caught.value.failure.failure_class in (FailureClass.WRONG_OUTPUT, FailureClass.STORAGE_FULL)


SCORES = arrays(np.float32, (5, 7), elements=st.floats(width=32))


@given(SCORES, arrays(np.int64, 5, elements=st.integers(0, 6)))
def test_metrics_hold_for_all_numbers(scores, labels):
    hits = [top_k_hits(scores, labels, k) for k in range(1, 8)]
    assert hits == sorted(hits)
    assert 0 <= hits[0] <= hits[-1] <= 5
    if np.isfinite(scores).all():
        assert hits[-1] == 5
        assert same_label_hits(scores, scores) == 5
        assert max_abs_errors(scores, scores).max() == 0
    else:
        assert max_abs_errors(scores, np.zeros_like(scores)).max() == float("inf")
    with np.errstate(all="ignore"):
        values = cosines(scores, scores)
    assert ((values >= -1) & (values <= 1)).all()


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_an_interval_holds_its_share(pair):
    share = proportion(*pair)
    assert 0 <= share.low <= share.value <= share.high <= 1


def outputs(seed=1):
    logits = np.random.default_rng(seed).normal(size=(50, 10)) * 3
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("limits", [LIMITS.floating, LIMITS.quantized])
def test_promise_h14_garbage_never_passes(limits):
    good = outputs()
    for bad in (np.zeros_like(good), np.full_like(good, np.nan), outputs(2), good[:, ::-1], good * 1e32, -good):
        assert not check_outputs([bad], [good], limits, real_samples=True).passed
    assert check_outputs([good], [good], limits, real_samples=True).passed


def test_rounding_passes():
    good = outputs()
    noise = np.random.default_rng(3).uniform(-1, 1, good.shape).astype(np.float32)
    assert check_outputs(
        [good + noise * 0.0058], [good], LIMITS.floating, real_samples=True
    ).passed  # a GPU's half precision, as seen
    assert check_outputs([good + noise * 5 / 256], [good], LIMITS.quantized, real_samples=True).passed
    stricter = OutputLimits(quantized={"max_relative_error": 0.001})
    assert not check_outputs([good + noise * 5 / 256], [good], stricter.quantized, real_samples=True).passed


def test_limits_follow_the_types():
    assert limits_for(variant_of("pooled-float").card, LIMITS) is LIMITS.floating
    assert limits_for(variant_of("pooled-int8").card, LIMITS) is LIMITS.quantized


def test_samples_know_themselves():
    one, two = Samples((np.zeros((2, 3), np.float32),), None), Samples((np.zeros((3, 2), np.float32),), None)
    assert one.sha256 != two.sha256
    assert len(one.first(1)) == 1
