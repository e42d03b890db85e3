"""Every technique that trains, and their combinations, from a Keras file to a `.tflite` that answers right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_networks import SIZE, write_model

from harness.compression.make import make_variant
from harness.datasets.labelled import choose_samples, load_dataset
from harness.errors import CompressionError, FailureClass
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, TfdsDataset, load_model_spec
from harness.spec.recipe import Recipe, Step
from harness.tflite.interpreter import interpret
from harness.tflite.variant import Variant
from harness.tflite.weights import weights

pytestmark = [pytest.mark.training, pytest.mark.slow]

INT8 = ("quantization", {"activations": "int8", "calibration_samples": 100})
FAST = {"epochs": 2, "batch": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return load_model_spec(write_model(tmp_path_factory.mktemp("quarters")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class _Told(SilentObserver):
    def __init__(self) -> None:
        self.bars: dict[str, int] = {}
        self.steps: dict[str, int] = {}

    def begin(self, name: str, total: int) -> None:
        self.bars[name] = total

    def advance(self, name: str, doing: str, steps: int = 1) -> None:
        self.steps[name] = self.steps.get(name, 0) + steps


def _make(model: ModelSpec, cache: Path, *steps: tuple[str, dict[str, Any]], observer: Any = None) -> Variant:
    recipe = Recipe(name="test", steps=tuple(Step(technique=name, settings=settings) for name, settings in steps))
    return make_variant(model, recipe, cache=cache, observer=observer or SilentObserver())


def _top1(model: ModelSpec, variant: Variant) -> float:
    dataset = load_dataset(model)
    assert dataset is not None
    samples = choose_samples(dataset, 1000)
    scores = interpret(str(variant.path), [samples.inputs[0]], 1)[0]
    return float((scores.argmax(1) == samples.labels).mean())


def _kernels(variant: Variant) -> dict[str, NDArray[Any]]:
    return {name: weight.values for name, weight in weights(variant.path.read_bytes()).items()}


def _zeros(variant: Variant) -> float:
    kernels = _kernels(variant).values()
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)


def _codes(variant: Variant) -> list[NDArray[Any]]:
    """Return the int8 kernels of a quantized file, by its own numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(variant.path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    constant = [
        detail
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and len(detail["quantization_parameters"]["scales"]) > 1
    ]
    return [interpreter.get_tensor(detail["index"]) for detail in constant]


def test_the_float_model_is_right_most_of_the_time(model: ModelSpec, cache: Path) -> None:
    assert _top1(model, _make(model, cache)) > 0.85


@pytest.mark.parametrize(
    "settings",
    [
        {"sparsity": 0.7},
        {"sparsity": 0.7, "schedule": "gradual", "scope": "lamp", "depthwise": True},
        {"sparsity": 0.5, "pattern": "block", "block": 4, "scope": "local"},
    ],
)
def test_pruned_weights_are_zero_in_the_file(model: ModelSpec, cache: Path, settings: dict[str, Any]) -> None:
    variant = _make(model, cache, ("pruning", settings | FAST))
    assert _zeros(variant) == pytest.approx(settings["sparsity"], abs=0.03)
    assert variant.card.step_facts[0]["sparsity"] == pytest.approx(settings["sparsity"], abs=0.03)
    assert _top1(model, variant) > 0.75


def test_two_of_four(model: ModelSpec, cache: Path) -> None:
    variant = _make(model, cache, ("pruning", {"pattern": "n:m", "n": 2, "m": 4} | FAST))
    dense = max(_kernels(variant).values(), key=lambda kernel: kernel.size)
    assert ((dense.reshape(len(dense), -1, 4) != 0).sum(-1) <= 2).all()
    assert _top1(model, variant) > 0.8


def test_pruning_before_training_starts_from_fresh_weights(model: ModelSpec, cache: Path) -> None:
    settings = {"sparsity": 0.5, "start": "fresh", "epochs": 6, "batch": 64, "learning_rate": 3e-3}
    variant = _make(model, cache, ("pruning", settings))
    assert _zeros(variant) == pytest.approx(0.5, abs=0.03)
    assert _top1(model, variant) > 0.6


def test_zeros_and_clusters_survive_training_for_int8(model: ModelSpec, cache: Path) -> None:
    prune = ("pruning", {"sparsity": 0.6} | FAST)
    cluster = ("clustering", {"clusters": 16, "epochs": 1, "batch": 64})
    learn = ("quantization-aware-training", {"epochs": 1, "batch": 64, "learning_rate": 3e-4})
    variant = _make(model, cache, prune, cluster, learn, INT8)
    codes = _codes(variant)
    assert codes
    total = sum(code.size for code in codes)
    assert sum(int((code == 0).sum()) for code in codes) / total > 0.55
    assert all(len(np.unique(np.abs(code))) <= 9 for code in codes), "8 magnitudes and zero; rounding adds none"
    assert _top1(model, variant) > 0.75


@pytest.mark.parametrize("bits", [3, 4])
def test_training_for_few_bits_beats_rounding_afterwards(model: ModelSpec, cache: Path, bits: int) -> None:
    store = ("quantization", {"weights": f"int{bits}", "activations": "int8", "calibration_samples": 100})
    learn = ("quantization-aware-training", {"weight_bits": bits, "epochs": 4, "batch": 64})
    trained, rounded = _make(model, cache, learn, store), _make(model, cache, store)
    assert "int4" in trained.card.weight_types
    assert _top1(model, trained) >= _top1(model, rounded)
    assert _top1(model, trained) > 0.8


def test_channel_pruning_makes_the_network_smaller(model: ModelSpec, cache: Path) -> None:
    variant = _make(model, cache, ("channel-pruning", {"importance": "taylor", "multiply_adds": 0.6} | FAST))
    facts = variant.card.step_facts[0]
    assert facts["multiply_adds"] <= 0.6 * facts["multiply_adds_before"]
    assert variant.card.size_bytes < _make(model, cache).card.size_bytes
    assert _top1(model, variant) > 0.75


def test_low_rank_factors_replace_large_layers(model: ModelSpec, cache: Path) -> None:
    variant = _make(model, cache, ("low-rank", {"ratio": 0.7, "epochs": 4, "batch": 64}))
    facts = variant.card.step_facts[0]
    assert facts["parameters"] < facts["parameters_before"]
    assert facts["ranks"]
    assert _top1(model, variant) > 0.6


def test_a_student_learns_from_the_model_and_goes_on_learning_for_int8(model: ModelSpec, cache: Path) -> None:
    distil = ("distillation", {"width": 0.5, "epochs": 6, "batch": 64, "hints": ["joined"]})
    learn = ("quantization-aware-training", {"epochs": 1, "batch": 64, "teacher_share": 0.9})
    variant = _make(model, cache, distil, learn, INT8)
    facts = variant.card.step_facts[0]
    assert facts["student_parameters"] < facts["teacher_parameters"]
    assert _top1(model, variant) > 0.7


def test_recipes_that_begin_alike_share_the_training_and_say_so(model: ModelSpec, tmp_path: Path) -> None:
    prune = ("pruning", {"sparsity": 0.5, "epochs": 1, "batch": 64})
    told = _Told()
    first = _make(model, tmp_path, prune, observer=told)
    (bar,) = told.bars
    assert told.steps[bar] == told.bars[bar] == -(-1200 // 64), "19 batches of 1,200 images that are not held back"
    again = _Told()
    second = _make(model, tmp_path, prune, INT8, observer=again)
    assert not any("prun" in bar for bar in again.bars), "nothing is pruned or trained again"
    assert second.card.step_facts[0] == first.card.step_facts[0]
    facts = first.card.step_facts[0]
    assert facts["training_s"] > 0
    assert facts["peak_memory_mb"] > 100
    logs = Path(facts["logs"])
    assert (logs / "epochs.csv").read_text().startswith("epoch,loss")


def test_equal_recipes_give_equal_bytes(model: ModelSpec, cache: Path, tmp_path: Path) -> None:
    steps = (("pruning", {"sparsity": 0.7} | FAST),)
    assert _make(model, cache, *steps).sha256 == _make(model, tmp_path, *steps).sha256


def test_early_stopping_ends_a_training_that_no_longer_helps(model: ModelSpec, cache: Path) -> None:
    settings = {"weight_bits": 8, "epochs": 30, "patience": 1, "batch": 64, "learning_rate": 1e-6}
    variant = _make(model, cache, ("quantization-aware-training", settings))
    assert variant.card.step_facts[0]["epochs"] < 30


def test_a_training_that_was_stopped_goes_on_after_its_last_epoch(model: ModelSpec, tmp_path: Path) -> None:
    """Stop a training by SIGINT after its first epoch, as Ctrl-C does, and run the same command again."""
    import os
    import signal
    import subprocess
    import sys
    import time

    recipe = tmp_path / "long.toml"
    recipe.write_text(
        'name = "long"\n[[steps]]\ntechnique = "pruning"\n'
        "settings = { sparsity = 0.5, epochs = 12, batch = 16, learning_rate = 0.001 }\n"
    )
    command = [sys.executable, "-m", "harness", "compress", str(model.folder / "quarters.toml"), "-r", str(recipe)]
    environment = {**os.environ, "HARNESS_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        logs = list((tmp_path / "cache" / "trainings").glob("*/epochs.csv"))
        if logs and len(logs[0].read_text().splitlines()) > 2:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors.decode()
    done_before = len(logs[0].read_text().splitlines()) - 1
    assert not list((tmp_path / "cache" / "variants").glob("*.tflite")), "nothing half-written passes for a variant"
    finished = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr
    facts = json.loads(finished.stdout)["variants"][0]["step_facts"][0]
    assert facts["epochs"] <= 12 - done_before + 1, "at most the epoch under way was repeated"
    epochs = [int(line.split(",")[0]) for line in logs[0].read_text().splitlines()[1:]]
    assert sorted(set(epochs)) == list(range(12))


def _bad(model: ModelSpec, folder: Path, **arrays: Any) -> ModelSpec:
    np.savez(folder / "bad.npz", **arrays)
    assert model.training is not None
    data = model.training.data.model_copy(update={"path": folder / "bad.npz"})
    return model.model_copy(update={"training": model.training.model_copy(update={"data": data})})


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"train_images": np.zeros((9, SIZE, SIZE, 1), np.uint8)}, "train_labels"),
        ({"train_images": np.zeros((9, 5, 5, 1), np.uint8), "train_labels": np.zeros(9, int)}, r"\(5, 5, 1\)"),
        ({"train_images": np.zeros((9, SIZE, SIZE), np.uint8), "train_labels": np.zeros(7, int)}, "labels of shape"),
        ({"train_images": np.zeros((9, SIZE, SIZE), np.uint8), "train_labels": np.full(9, 4)}, "labels go from 4 to 4"),
        ({"train_images": np.zeros((9, SIZE, SIZE), np.float32), "train_labels": np.zeros(9, int)}, "float32"),
    ],
)
def test_bad_training_data_is_told(model: ModelSpec, tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(CompressionError, match=says) as caught:
        _make(_bad(model, tmp_path, **arrays), tmp_path, ("pruning", {"epochs": 1}))
    assert caught.value.failure.failure_class is FailureClass.CONVERSION_FAILED


def test_nan_weights_are_found_before_anything_is_trained(model: ModelSpec, tmp_path: Path) -> None:
    import keras

    network = keras.models.load_model(model.folder / "quarters.keras", compile=False)
    values = network.get_weights()
    values[0][0, 0, 0, 0] = np.nan
    network.set_weights(values)
    network.save(tmp_path / "nan.keras")
    broken = model.model_copy(update={"source": model.source.model_copy(update={"path": tmp_path / "nan.keras"})})
    with pytest.raises(CompressionError, match="NaN or infinite") as caught:
        _make(broken, tmp_path, ("pruning", {"epochs": 1}))
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


def test_a_model_without_training_data_is_told_so_without_starting_tensorflow(model: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"\[training\.data\]"):
        _make(model.model_copy(update={"training": None}), tmp_path, ("pruning", {"epochs": 1}))


def test_an_accuracy_budget_reverts_layers_of_a_real_file(model: ModelSpec, cache: Path) -> None:
    settings = {"weights": "int3", "activations": "int8", "calibration_samples": 100, "max_drop_points": 3.0}
    variant = _make(model, cache, ("quantization", settings))
    facts = variant.card.step_facts[0]
    assert facts["judged_on"] == "300 held-back training images"
    assert facts["budget_kept"] == (facts["drop_upper_points"] <= 3.0)
    assert facts["noisiest_layers"]


def test_test_images_judge_where_training_images_cannot_be_downloaded(model: ModelSpec, tmp_path: Path) -> None:
    assert model.training is not None
    away = model.training.model_copy(update={"data": TfdsDataset(kind="tfds", name="no_such_data_set")})
    step = ("quantization", {"weights": "int4", "activations": "int8", "max_drop_points": 3.0})
    facts = _make(model.model_copy(update={"training": away}), tmp_path, step).card.step_facts[0]
    assert "test images" in facts["judged_on"]


def test_a_student_of_ones_own_learns_and_one_that_does_not_fit_is_told(model: ModelSpec, tmp_path: Path) -> None:
    import keras

    def student(classes: int) -> str:
        path = tmp_path / f"student-{classes}.keras"
        layers = keras.layers
        stack = [keras.Input((SIZE, SIZE, 1)), layers.AveragePooling2D(2), layers.Flatten()]
        keras.Sequential([*stack, layers.Dense(classes, activation="softmax")]).save(path)
        return str(path)

    settings = {"epochs": 8, "batch": 64, "learning_rate": 0.01}
    variant = _make(model, tmp_path, ("distillation", {"student": student(4), **settings}))
    assert variant.card.step_facts[0]["student_parameters"] == 16 * 4 + 4
    assert _top1(model, variant) > 0.6
    with pytest.raises(CompressionError, match="they must agree"):
        _make(model, tmp_path, ("distillation", {"student": student(5), **settings}))
    with pytest.raises(CompressionError, match="no layer nowhere, which hints name"):
        _make(model, tmp_path, ("distillation", {"hints": ["nowhere"], **settings}))
