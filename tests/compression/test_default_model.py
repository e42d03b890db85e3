"""The variants of the shipped model: accuracy, determinism, and the runtime 2.14 that they promise to load in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from official_runtime import run_official

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.runtimes import foresee_failure
from harness.tflite.variant import Variant

pytestmark = [pytest.mark.training, pytest.mark.slow]

NAMES = ("fp32", "fp16", "dynamic-int8", "int8", "int8-io")
NEWER = Recipe(
    name="newer", steps=(Step(technique="quantization", settings={"weights": "int8"}),), target_runtime="current"
)


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    return find_model("fashion-dscnn")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def variants(model: ModelSpec, cache: Path) -> dict[str, Variant]:
    recipes = [*(builtin_recipes()[name] for name in NAMES), NEWER]
    return {recipe.name: make_variant(model, recipe, cache=cache, observer=SilentObserver()) for recipe in recipes}


@pytest.fixture(scope="module")
def labelled(model: ModelSpec) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    assert model.data is not None
    with np.load(model.locate(model.data.path), allow_pickle=False) as arrays:
        images, labels = arrays["test_images"], arrays["test_labels"]
    inputs = images[..., None].astype(np.float32) * model.preprocessing.scale + model.preprocessing.offset
    return inputs.astype(np.float32), labels


def _quantized(inputs: NDArray[np.float32], variant: Variant) -> NDArray[np.generic]:
    (tensor,) = variant.card.inputs
    if tensor.type == "float32":
        return inputs
    assert tensor.scale is not None
    return np.clip(np.round(inputs / tensor.scale) + (tensor.zero_point or 0), -128, 127).astype(np.int8)


def _host_labels(variant: Variant, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(variant.path))
    (first,) = interpreter.get_input_details()
    (last,) = interpreter.get_output_details()
    interpreter.resize_tensor_input(first["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(first["index"], _quantized(inputs, variant))
    interpreter.invoke()
    return interpreter.get_tensor(last["index"]).argmax(1)


def test_the_shipped_data_is_balanced(model: ModelSpec) -> None:
    assert model.data is not None
    with np.load(model.locate(model.data.path), allow_pickle=False) as arrays:
        assert np.bincount(arrays["test_labels"]).tolist() == [200] * 10
        assert arrays["calibration_images"].shape == (500, 28, 28)
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.uint8)}


def test_every_variant_is_within_one_point_of_the_float_model(
    variants: dict[str, Variant], labelled: tuple[NDArray[np.float32], NDArray[np.uint8]]
) -> None:
    inputs, labels = labelled
    top1 = {name: float((_host_labels(one, inputs) == labels).mean()) for name, one in variants.items()}
    assert top1["fp32"] > 0.91
    assert all(abs(value - top1["fp32"]) <= 0.01 for value in top1.values()), top1


def test_the_variants_are_what_their_names_say(variants: dict[str, Variant]) -> None:
    size = {name: one.card.size_bytes for name, one in variants.items()}
    assert size["fp16"] < 0.6 * size["fp32"]
    assert max(size[name] for name in ("dynamic-int8", "int8", "int8-io")) < 0.5 * size["fp32"]
    inputs = {name: (one.card.inputs[0].type, one.card.outputs[0].type) for name, one in variants.items()}
    assert inputs.pop("int8-io") == ("int8", "int8")
    assert set(inputs.values()) == {("float32", "float32")}
    assert variants["int8"].card.weight_types.keys() == {"int8", "int32"}
    assert all(one.card.inputs[0].shape == (1, 28, 28, 1) for one in variants.values())
    assert {one.card.calibration is None for one in variants.values() if "int8" in one.name} == {True, False}


def test_conversion_is_deterministic(model: ModelSpec, variants: dict[str, Variant], tmp_path: Path) -> None:
    for name in ("fp32", "int8"):
        again = make_variant(model, builtin_recipes()[name], cache=tmp_path, observer=SilentObserver())
        assert again.sha256 == variants[name].sha256


def test_the_cache_needs_no_tensorflow(cache: Path, variants: dict[str, Variant]) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.compression.make import make_variant\n"
        "from harness.compression.recipes import find_recipe\n"
        "from harness.spec.model import find_model\n"
        f"make_variant(find_model('fashion-dscnn'), find_recipe('int8'), cache=Path({str(cache)!r}), observer=None)\n"
        "print(sorted({'tensorflow', 'keras', 'litert_quantizer', 'ai_edge_litert'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_runtime_2_14_is_foreseen_to_refuse_only_the_variant_for_newer_ones(variants: dict[str, Variant]) -> None:
    refused = {name for name, one in variants.items() if foresee_failure(one.card, "2.14.1")}
    assert refused == {"newer"}


@pytest.mark.official_tool
@pytest.mark.parametrize("delegate", ["--use_xnnpack=true", "--use_xnnpack=false", "--use_gpu=true"])
@pytest.mark.parametrize("name", NAMES)
def test_the_official_2_14_tool_computes_what_the_host_does(
    name: str,
    delegate: str,
    variants: dict[str, Variant],
    labelled: tuple[NDArray[np.float32], NDArray[np.uint8]],
    official_tools: Path,
    tmp_path: Path,
) -> None:
    inputs, variant = labelled[0][::10], variants[name]
    done = run_official(official_tools, variant.path, _quantized(inputs, variant), tmp_path, delegate)
    if "clCreateImage" in done.stderr:
        pytest.skip("on AMD's CPUs, TFLite takes PoCL for an AMD GPU and asks for images that PoCL lacks")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = np.fromfile(tmp_path / "out.bin", variant.card.outputs[0].type).reshape(len(inputs), 10)
    assert (outputs.argmax(1) == _host_labels(variant, inputs)).mean() >= 0.98


@pytest.fixture(scope="module")
def rarer_variants(model: ModelSpec, cache: Path) -> dict[str, Variant]:
    """Formats that accelerators do not take; the last two store weights without training."""
    untrained = {
        "int4-dynamic": ("quantization", {"weights": "int4"}),
        "int3-least-error": ("quantization", {"weights": "int3", "activations": "int8", "scale": "least-error"}),
        "clustered": ("clustering", {"clusters": 16, "epochs": 0}),
    }
    recipes = [builtin_recipes()[name] for name in ("int16x8", "int8-tensor", "int4", "prune50-untrained")]
    recipes += [
        Recipe(name=name, steps=(Step(technique=technique, settings=settings),))
        for name, (technique, settings) in untrained.items()
    ]
    return {recipe.name: make_variant(model, recipe, cache=cache, observer=SilentObserver()) for recipe in recipes}


@pytest.mark.official_tool
@pytest.mark.parametrize("xnnpack", ["true", "false"])
@pytest.mark.parametrize(
    "name",
    ["int16x8", "int8-tensor", "int4", "int4-dynamic", "int3-least-error", "clustered", "prune50-untrained"],
)
def test_the_official_2_14_tool_computes_rarer_formats_as_the_host_does(
    name: str,
    xnnpack: str,
    rarer_variants: dict[str, Variant],
    labelled: tuple[NDArray[np.float32], NDArray[np.uint8]],
    official_tools: Path,
    tmp_path: Path,
) -> None:
    inputs, variant = labelled[0][::10], rarer_variants[name]
    done = run_official(official_tools, variant.path, inputs, tmp_path, f"--use_xnnpack={xnnpack}")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = np.fromfile(tmp_path / "out.bin", np.float32).reshape(len(inputs), 10)
    assert (outputs.argmax(1) == _host_labels(variant, inputs)).mean() >= 0.97


@pytest.mark.official_tool
def test_the_official_2_14_tool_refuses_the_variant_for_newer_runtimes(
    variants: dict[str, Variant],
    labelled: tuple[NDArray[np.float32], NDArray[np.uint8]],
    official_tools: Path,
    tmp_path: Path,
) -> None:
    done = run_official(official_tools, variants["newer"].path, labelled[0][:10], tmp_path)
    assert done.returncode != 0
    assert "FULLY_CONNECTED" in done.stdout + done.stderr
    assert "version '12'" in done.stdout + done.stderr
