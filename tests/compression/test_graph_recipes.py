"""Techniques on `.tflite` files, which cannot be trained: their float constants are rewritten. Needs no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_graphs import INPUT_SIZE, dense_graph

from harness.compression.judges import run_graph
from harness.compression.make import make_variant
from harness.errors import CompressionError, FailureClass
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant
from harness.tflite.weights import weights

ModelMaker = Callable[..., ModelSpec]
Cli = Callable[..., Any]


def _make(model: ModelSpec, folder: Path, *steps: tuple[str, dict[str, Any]], runtime: str = "2.14") -> Variant:
    recipe = Recipe(
        name="test",
        steps=tuple(Step(technique=name, settings=settings) for name, settings in steps),
        target_runtime=runtime,
    )
    return make_variant(model, recipe, cache=folder, observer=SilentObserver())


def _weights(variant: Variant) -> Any:
    (weight,) = weights(variant.path.read_bytes()).values()
    return weight.values


def test_pruning_rewrites_the_constants(graph_model: ModelMaker, tmp_path: Path) -> None:
    variant = _make(graph_model(), tmp_path, ("pruning", {"sparsity": 0.75, "epochs": 0}))
    found, original = _weights(variant), next(iter(weights(dense_graph()).values())).values
    assert (found == 0).mean() == 0.75
    assert np.array_equal(found[found != 0], original[found != 0])
    assert np.abs(original[found == 0]).max() <= np.abs(original[found != 0]).min()
    assert variant.card.step_facts[0]["sparsity"] == 0.75


def test_clustering_rewrites_the_constants_and_keeps_zeros(graph_model: ModelMaker, tmp_path: Path) -> None:
    steps = ("pruning", {"sparsity": 0.25, "epochs": 0, "scope": "local"}), ("clustering", {"clusters": 7, "epochs": 0})
    found = _weights(_make(graph_model(), tmp_path, *steps))
    assert (found == 0).mean() == 0.25
    for row in found:
        assert len(np.unique(np.abs(row))) <= 4, "three magnitudes and zero"


def test_pruned_clustered_and_quantized_it_still_answers_alike(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    steps = (
        ("pruning", {"sparsity": 0.25, "epochs": 0, "scope": "local"}),
        ("clustering", {"clusters": 33, "epochs": 0}),
        ("quantization", {"weights": "int8"}),
    )
    inputs = np.random.default_rng(1).normal(size=(40, INPUT_SIZE))
    expected = run_graph(dense_graph(), inputs)
    found = run_graph(_make(model, tmp_path, *steps).path.read_bytes(), inputs)
    assert np.corrcoef(found.reshape(-1), expected.reshape(-1))[0, 1] > 0.95


@pytest.mark.parametrize("technique", ["pruning", "clustering"])
def test_what_cannot_be_trained_says_how_to_do_without(graph_model: ModelMaker, tmp_path: Path, technique: str) -> None:
    model = graph_model()
    trainable = model.model_copy(update={"training": _training(tmp_path)})
    with pytest.raises(CompressionError, match="set epochs = 0"):
        _make(trainable, tmp_path, (technique, {"epochs": 1}))


@pytest.mark.parametrize("technique", ["channel-pruning", "low-rank", "distillation", "quantization-aware-training"])
def test_techniques_that_need_a_keras_model_are_refused(
    graph_model: ModelMaker, tmp_path: Path, technique: str
) -> None:
    trainable = graph_model().model_copy(update={"training": _training(tmp_path)})
    with pytest.raises(CompressionError, match=r"cannot be trained|training has to come first") as caught:
        _make(trainable, tmp_path, (technique, {"epochs": 1}))
    assert caught.value.failure.failure_class is FailureClass.CONVERSION_FAILED


def _training(folder: Path) -> Any:
    from harness.spec.model import NumpyFile, Training

    np.savez(folder / "some.npz", train_images=np.zeros((2, 4, 4), np.uint8), train_labels=np.zeros(2, int))
    return Training(data=NumpyFile(kind="numpy", path=folder / "some.npz"))


@pytest.mark.parametrize("technique", ["pruning", "clustering"])
def test_a_model_without_such_layers_is_told_so(graph_model: ModelMaker, tmp_path: Path, technique: str) -> None:
    with pytest.raises(CompressionError, match="no convolution or dense layer"):
        _make(graph_model(custom_operator="Mfcc"), tmp_path, (technique, {"epochs": 0}))


def test_layers_may_differ_and_names_that_match_nothing_are_told(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    mixed = _make(model, tmp_path, ("quantization", {"layers": [{"match": "^out;", "weights": "float"}]}))
    assert mixed.card.weight_types.keys() == {"float32"}
    with pytest.raises(CompressionError, match="no operator whose name matches 'conv'"):
        _make(model, tmp_path, ("quantization", {"layers": [{"match": "conv"}]}))


def test_blocks_of_int4_weights(tmp_path: Path, graph_model: ModelMaker) -> None:
    random = np.random.default_rng(2)
    wide = graph_model(weights=random.normal(size=(4, 64)).astype(np.float32))
    variant = _make(wide, tmp_path, ("quantization", {"weights": "int4", "granularity": "block-32"}), runtime="current")
    assert "int4" in variant.card.weight_types


def test_zeros_are_stored_sparse_and_the_answers_stay(tmp_path: Path, graph_model: ModelMaker) -> None:
    random = np.random.default_rng(2)
    model = graph_model(weights=random.normal(size=(64, 512)).astype(np.float32))
    dense = _make(model, tmp_path, ("pruning", {"sparsity": 0.9, "epochs": 0}))
    sparse = _make(
        model, tmp_path, ("pruning", {"sparsity": 0.9, "epochs": 0}), ("sparse-storage", {"short_names": True})
    )
    assert sparse.card.size_bytes < 0.4 * dense.card.size_bytes
    assert "DENSIFY" in sparse.card.operators
    inputs = random.normal(size=(3, 512))
    assert np.array_equal(run_graph(sparse.path.read_bytes(), inputs), run_graph(dense.path.read_bytes(), inputs))


def test_show_prints_range_step_and_offset(harness_cli: Cli, graph_model: ModelMaker, tmp_path: Path) -> None:
    path = str(graph_model().locate(Path("dense.tflite")))
    recipe = tmp_path / "noise.toml"
    recipe.write_text(
        'name = "noise"\n[[steps]]\ntechnique = "quantization"\n'
        'settings = { activations = "int8", io = "int8", calibration = "random" }\n'
    )
    told = harness_cli("compress", path, "-r", str(recipe), "--show")
    assert told.returncode == 0, told.stderr
    assert "code = round(real / step + offset)" in told.stdout
    assert "(4 steps)" in told.stdout
    answer = json.loads(harness_cli("compress", path, "-r", str(recipe), "--show", "--json").stdout)
    tensors = {tensor["written_by"]: tensor for tensor in answer["variants"][0]["tensors"]}
    assert tensors["input"]["type"] == "int8"
    low, high = tensors["input"]["low"], tensors["input"]["high"]
    assert high - low == pytest.approx(255 * tensors["input"]["steps"][0])


def test_a_budget_without_labels_is_told(harness_cli: Cli, graph_model: ModelMaker) -> None:
    path = str(graph_model().locate(Path("dense.tflite")))
    told = harness_cli("compress", path, "-r", "dynamic-int8", "--max-drop", "1")
    assert told.returncode == 1
    assert "Cannot keep max_drop_points for dense: it has no labelled images" in told.stderr
