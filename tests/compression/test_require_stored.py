"""After a recipe: the file runs, and holds weights of the type that was asked for, or says why it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from small_graphs import dense_graph

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.worker import _require_runs
from harness.errors import CompressionError, FailureClass
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import VariantCard

RANDOM = {"activations": "int8", "calibration": "random", "calibration_samples": 5}
RECIPES = {
    "fp16": builtin_recipes()["fp16"],
    "dynamic-int8": builtin_recipes()["dynamic-int8"],
    "int8": Recipe(name="int8", steps=(Step(technique="quantization", settings=RANDOM),)),
    "int4": Recipe(name="int4", steps=(Step(technique="quantization", settings={**RANDOM, "weights": "int4"}),)),
}


def _changed(change: Callable[[Any], None]) -> bytes:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(dense_graph()))
    change(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _card(folder: Path, graph: bytes, recipe: str) -> VariantCard:
    (folder / "net.tflite").write_bytes(graph)
    model = find_model(str(folder / "net.tflite"))
    return make_variant(model, RECIPES[recipe], cache=folder, observer=SilentObserver()).card


def _old_schema(model: Any) -> None:
    for code in model.operatorCodes:
        code.builtinCode = 0  # ADD, for those who read the new field alone


@pytest.mark.parametrize(("recipe", "kind"), [("fp16", "float16"), ("dynamic-int8", "int8"), ("int8", "int8")])
def test_files_of_an_older_schema_are_quantized(tmp_path: Path, recipe: str, kind: str) -> None:
    card = _card(tmp_path, _changed(_old_schema), recipe)
    assert kind in card.weight_types
    assert card.operators["FULLY_CONNECTED"] == 1


def _without_weights(model: Any) -> None:
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.TANH
    (graph,) = model.subgraphs
    graph.operators[0].inputs = [0]
    graph.operators[0].builtinOptionsType, graph.operators[0].builtinOptions = 0, None
    graph.tensors[2].shape = graph.tensors[0].shape


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_model_without_weights_gets_a_note(tmp_path: Path, recipe: str) -> None:
    facts = _card(tmp_path, _changed(_without_weights), recipe).step_facts
    assert "no layer with weights" in facts[0]["note"]


def test_int4_that_no_layer_takes_gets_a_note(tmp_path: Path) -> None:
    card = _card(tmp_path, dense_graph(), "int4")
    assert "int4" not in card.weight_types
    assert "no layer takes int4" in card.step_facts[0]["note"]


def test_weights_that_stay_float_are_a_failure(tmp_path: Path) -> None:
    def too_large(model: Any) -> None:
        import numpy as np

        model.buffers[1].data = np.full(64, 1e6, "<f4").view(np.uint8)

    with pytest.raises(CompressionError, match="none of its 1 layers with weights became float16"):
        _card(tmp_path, _changed(too_large), "fp16")


def test_a_file_that_does_not_run_is_a_failure() -> None:
    def three_axes(model: Any) -> None:
        model.subgraphs[0].tensors[1].shape = [4, 4, 4]

    with pytest.raises(CompressionError, match="LiteRT does not run the file") as caught:
        _require_runs(_changed(three_axes), "int8")
    assert caught.value.failure.failure_class is FailureClass.CONVERSION_FAILED
