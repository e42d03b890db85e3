"""Weights chosen by their inputs, without training or labels: what recipes make of `.tflite` files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_graphs import dense_graph

from harness.compression.judges import run_graph
from harness.compression.make import make_variant
from harness.compression.recipes import leading_weight_steps, needs
from harness.datasets.labelled import load_dataset
from harness.errors import CompressionError, UsageError
from harness.progress import SilentObserver
from harness.spec.model import Data, ModelSpec
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant
from harness.tflite.weights import weights

ModelMaker = Callable[..., ModelSpec]
INPUTS, OUTPUTS = 48, 12
_NO_DATA = "chosen by the weights alone: the model has no calibration data"


def _recipe(*steps: tuple[str, dict[str, Any]]) -> Recipe:
    return Recipe(name="test", steps=tuple(Step(technique=name, settings=settings) for name, settings in steps))


def _make(model: ModelSpec, folder: Path, *steps: tuple[str, dict[str, Any]]) -> Variant:
    return make_variant(model, _recipe(*steps), cache=folder, observer=SilentObserver())


def _correlated(count: int, seed: int) -> NDArray[np.float32]:
    """Return inputs that share few sources, as the channels of a network do."""
    sources = np.random.default_rng(0).normal(size=(INPUTS // 4, INPUTS))
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(count, INPUTS), scale=0.1)
    return np.asarray(draw.normal(size=(count, INPUTS // 4)) @ sources + noise, np.float32)


@pytest.fixture
def model(graph_model: ModelMaker) -> ModelSpec:
    values = np.random.default_rng(1).normal(size=(OUTPUTS, INPUTS)).astype(np.float32)
    return graph_model(weights=values)


def _with_data(model: ModelSpec, folder: Path, **arrays: NDArray[Any]) -> ModelSpec:
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    return model.model_copy(update={"data": Data(path=folder / "data.npz")})


STEPS = {
    "pruning": ("pruning", {"sparsity": 0.5, "fit": "inputs", "epochs": 0}),
    "clustering": ("clustering", {"clusters": 9, "fit": "inputs", "epochs": 0}),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_calibration_data_brings_unseen_outputs_nearer(
    model: ModelSpec, tmp_path: Path, step: tuple[str, dict[str, Any]]
) -> None:
    calibrated = _with_data(model, tmp_path, calibration_images=_correlated(64, 2))
    unseen = _correlated(200, 3)
    (original,) = weights(model.locate(Path("dense.tflite")).read_bytes()).values()
    wanted = unseen @ original.values.T  # the float model, by NumPy
    errors = []
    for one in (calibrated, model):
        variant = _make(one, tmp_path / "cache", step)
        errors.append(np.square(run_graph(variant.path.read_bytes(), unseen) - wanted).mean())
        notes = [fact.get("note") for fact in variant.card.step_facts]
        assert notes == [
            None if one is calibrated else "chosen by the weights alone: the model has no calibration data"
        ]
    assert errors[0] < errors[1] / 3


def test_data_without_calibration_inputs_counts_as_none(model: ModelSpec, tmp_path: Path) -> None:
    labelled = _with_data(model, tmp_path, test_images=_correlated(8, 2), test_labels=np.zeros(8, int))
    variant = _make(labelled, tmp_path / "cache", STEPS["pruning"])
    assert variant.card.step_facts[0]["note"] == _NO_DATA
    found, plain = (
        weights(one.path.read_bytes()) for one in (variant, _make(model, tmp_path / "cache", STEPS["pruning"]))
    )
    for name in plain:
        np.testing.assert_array_equal(found[name].values, plain[name].values)


def test_recipes_of_before_go_by_the_weights_alone(model: ModelSpec, tmp_path: Path) -> None:
    calibrated = _with_data(model, tmp_path, calibration_images=_correlated(16, 2))
    variant = _make(calibrated, tmp_path / "cache", ("pruning", {"sparsity": 0.5, "epochs": 0}))
    (found,), (original,) = (
        weights(content).values()
        for content in (variant.path.read_bytes(), model.locate(Path("dense.tflite")).read_bytes())
    )
    kept = found.values != 0
    np.testing.assert_array_equal(found.values[kept], original.values[kept])


def test_untrained_steps_need_no_keras_model_and_no_data() -> None:
    quantization = ("quantization", {"weights": "int8"})
    trained = ("pruning", {"epochs": 1})
    assert leading_weight_steps(_recipe(STEPS["pruning"], STEPS["clustering"], quantization)) == 0
    assert leading_weight_steps(_recipe(STEPS["pruning"], ("quantization-aware-training", {}), quantization)) == 2
    assert leading_weight_steps(_recipe(trained, STEPS["clustering"], quantization)) == 1
    assert needs(_recipe(STEPS["pruning"], STEPS["clustering"])) == []
    assert needs(_recipe(STEPS["pruning"], ("quantization", {"activations": "int8"}))) == ["calibration data"]


def test_a_budget_of_unlabelled_answers_goes_by_those_of_the_float_model(model: ModelSpec, tmp_path: Path) -> None:
    calibrated = _with_data(model, tmp_path, calibration_images=_correlated(300, 2))
    settings = {"weights": "int8", "granularity": "tensor", "calibration_samples": 300, "max_drop_points": 2.0}
    variant = _make(calibrated, tmp_path / "cache", ("quantization", settings))
    facts = variant.card.step_facts[0]
    assert facts["judged_on"].startswith("300 calibration samples, by the answers of the float model")
    seen = _correlated(300, 2)
    (original,) = weights(model.locate(Path("dense.tflite")).read_bytes()).values()
    differ = (run_graph(variant.path.read_bytes(), seen).argmax(1) != (seen @ original.values.T).argmax(1)).mean()
    assert facts["drop_points"] == pytest.approx(100 * differ, abs=0.01)
    assert facts["budget_kept"] == (facts["drop_upper_points"] <= 2.0)


def test_one_budget_at_a_time(model: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        _make(model, tmp_path, ("quantization", {"max_drop_points": 1.0, "min_snr_db": 20.0}))


def test_signal_to_noise_needs_data(model: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="no data to calibrate on"):
        _make(model, tmp_path, ("quantization", {"min_snr_db": 20.0}))


def test_the_signal_to_noise_that_is_asked_for_is_reached(model: ModelSpec, tmp_path: Path) -> None:
    calibrated = _with_data(model, tmp_path, calibration_images=_correlated(64, 2))
    variant = _make(calibrated, tmp_path / "cache", ("quantization", {"weights": "int8", "min_snr_db": 90.0}))
    facts = variant.card.step_facts[0]
    assert facts["budget_kept"]
    assert len(facts["reverted_layers"]) == 1
    seen = _correlated(64, 2)
    np.testing.assert_allclose(
        run_graph(variant.path.read_bytes(), seen), run_graph(dense_graph(weights=_kernel(model)), seen), rtol=1e-5
    )


def _kernel(model: ModelSpec) -> NDArray[np.float32]:
    (original,) = weights(model.locate(Path("dense.tflite")).read_bytes()).values()
    return original.values


def test_an_array_per_input_is_calibration_data_and_no_labels(model: ModelSpec, tmp_path: Path) -> None:
    several = _with_data(model, tmp_path, calibration_left=_correlated(4, 2), calibration_right=_correlated(4, 3))
    assert load_dataset(several) is None
