"""Each format that a model may come in, as far as a running graph, and what each refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compression.lineage import trace
from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.sources.load import load_keras_model
from harness.compression.sources.pytorch import check_program
from harness.compression.sources.reading import digest_of_files
from harness.errors import CompressionError, FailureClass
from harness.progress import SilentObserver
from harness.spec.model import Data, ModelSpec, find_model, load_model_spec
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant

DATA = Path(__file__).parent / "data"

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx2tf") is None, reason="the extra onnx is not installed")
needs_pytorch = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="the extra pytorch is not installed"
)


FLOAT = builtin_recipes()["fp32"]
# Of a handful of images, the average of their ranges would cut off the outputs of most.
INT8 = Recipe(
    name="int8-extremes",
    steps=(Step(technique="quantization", settings={"activations": "int8", "ranges": "extremes"}),),
)


def _make(model: ModelSpec, cache: Path, recipe: Recipe = FLOAT) -> Variant:
    return make_variant(model, recipe, cache=cache, observer=SilentObserver())


def _outputs(path: Path, images: np.ndarray) -> np.ndarray:
    """Run a graph of batch one, image after image."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for image in images:
        interpreter.set_tensor(first["index"], image[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(last["index"])[0])
    return np.stack(answers)


@pytest.fixture
def small_network() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    features = keras.layers.BatchNormalization()(features)
    return keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(features)))


def _with_data(model: ModelSpec, folder: Path, images: np.ndarray) -> ModelSpec:
    """Return the model with calibration images that are 0..255 of `images`, which are 0..1."""
    path = folder / "images.npz"
    np.savez(path, calibration_images=(images * 255).round().astype(np.uint8))
    data = Data(path=path.absolute(), licence="none", origin="noise")
    return model.model_copy(
        update={"data": data, "preprocessing": model.preprocessing.model_copy(update={"scale": 1 / 255})}
    )


def _images(count: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(5).random((count, size, size, 3), dtype=np.float32)


# SavedModel


@pytest.mark.training
def test_a_saved_model_answers_as_the_network_and_quantizes_with_data(small_network: Any, tmp_path: Path) -> None:
    small_network.export(tmp_path / "net", verbose=False)
    images = _images(8)
    model = _with_data(find_model(str(tmp_path / "net")), tmp_path, images)
    plain, small = _make(model, tmp_path), _make(model, tmp_path, INT8)
    expected = np.asarray(small_network(images))
    assert plain.card.inputs[0].shape == (1, 16, 16, 3)
    assert np.abs(_outputs(plain.path, images) - expected).max() < 1e-5
    assert np.abs(_outputs(small.path, images) - expected).max() < 0.05 * np.abs(expected).max()
    assert plain.card.libraries.keys() == {"ai-edge-litert", "litert-quantizer", "tensorflow"}


@pytest.mark.training
@pytest.mark.parametrize("name", ["folder", "file.h5"])
def test_mobilenet_v2_answers_as_the_network_it_was_saved_from(tmp_path: Path, name: str) -> None:
    import keras

    network = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=10)
    if name == "folder":
        network.export(tmp_path / name, verbose=False)
    else:
        network.save(tmp_path / name)
    variant = _make(find_model(str(tmp_path / name)), tmp_path)
    images = _images(2, 32)
    assert np.abs(_outputs(variant.path, images) - np.asarray(network(images))).max() < 1e-5
    assert variant.card.operators["DEPTHWISE_CONV_2D"] == 17


@pytest.mark.training
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_saved_model_of_another_number_format_becomes_float32(tmp_path: Path, policy: str) -> None:
    """Keras computes the same weights in the network's own format and in float32, by which the bound is chosen."""
    import keras
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    def build(policy: str) -> Any:
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(policy)
        try:
            inputs = keras.Input((16, 16, 3), name="photo", dtype="float32")
            x = keras.layers.Conv2D(8, 3, strides=2, activation="swish")(inputs)
            x = keras.layers.DepthwiseConv2D(3)(keras.layers.BatchNormalization()(x))
            x = keras.layers.GlobalAveragePooling2D()(x)
            return keras.Model(inputs, {"b": keras.layers.Dense(5)(x), "a": keras.layers.Dense(2)(x)})
        finally:
            keras.config.set_dtype_policy("float32")

    saved, plain = build(policy), build("float32")
    plain.set_weights(saved.get_weights())
    serve = tf.function(lambda photo: saved(photo, training=False))
    signature = serve.get_concrete_function(tf.TensorSpec((None, 16, 16, 3), tf.float32, name="photo"))
    tf.saved_model.save(saved, tmp_path / "net", signatures={"serving_default": signature})
    variant = _make(find_model(str(tmp_path / "net")), tmp_path)
    images = _images(4)
    runner = Interpreter(model_path=str(variant.path)).get_signature_runner()
    assert {tensor.type for tensor in (*variant.card.inputs, *variant.card.outputs)} == {"float32"}
    expected = plain(images)
    for place, image in enumerate(images):
        for name, found in runner(photo=image[None]).items():
            assert np.abs(found[0] - expected[name][place]).max() < 1e-5


def test_a_saved_model_is_known_by_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "variables" / "data").write_bytes(b"weights")
    model = find_model(str(tmp_path))
    before = trace(model, FLOAT).model_sha256
    (tmp_path / "variables" / "data").write_bytes(b"weightz")
    assert trace(model, FLOAT).model_sha256 != before


def test_a_digest_tells_names_from_contents(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "ab"
    one.write_bytes(b"bc")
    other.write_bytes(b"c")
    assert digest_of_files(tmp_path, [one]) != digest_of_files(tmp_path, [other])


def test_a_folder_that_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"not a SavedModel folder: there is no saved_model\.pb"):
        _make(find_model(str(tmp_path)), tmp_path / "cache")


@pytest.mark.training
@pytest.mark.parametrize(
    ("shape", "named", "says"),
    [((None, None, 3), True, "open shape"), ((4,), False, "no signature 'serving_default'")],
)
def test_a_saved_model_that_cannot_be_converted(
    tmp_path: Path, shape: tuple[int | None, ...], named: bool, says: str
) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.run = tf.function(lambda image: image + 1.0, input_signature=[tf.TensorSpec((None, *shape), tf.float32)])
    tf.saved_model.save(
        module, tmp_path / "net", signatures=module.run if named else {"one": module.run, "two": module.run}
    )
    with pytest.raises(CompressionError, match=says):
        _make(find_model(str(tmp_path / "net")), tmp_path)


@pytest.mark.training
def test_a_saved_model_cut_short(small_network: Any, tmp_path: Path) -> None:
    small_network.export(tmp_path / "net", verbose=False)
    (tmp_path / "net" / "saved_model.pb").write_bytes(b"\x0a\xff\xff")
    with pytest.raises(CompressionError) as caught:
        _make(find_model(str(tmp_path / "net")), tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


# ONNX and PyTorch: one network in both formats, made by data/make_torch_files.py


@pytest.mark.training
@pytest.mark.parametrize(
    "name", [pytest.param("small-net.onnx", marks=needs_onnx), pytest.param("small-net.pt2", marks=needs_pytorch)]
)
def test_a_network_of_pytorch_answers_as_in_pytorch_and_quantizes_with_data(tmp_path: Path, name: str) -> None:
    with np.load(DATA / "small-net.npz") as arrays:
        images, scores = arrays["images"], arrays["scores"]
    model = _with_data(find_model(str(DATA / name)), tmp_path, images)
    plain, small = _make(model, tmp_path), _make(model, tmp_path, INT8)
    assert plain.card.inputs[0].shape == (1, 16, 16, 3)
    assert np.abs(_outputs(plain.path, images) - scores).max() < 1e-5
    assert np.abs(_outputs(small.path, images) - scores).max() < 0.05 * np.abs(scores).max()
    assert "missing" not in plain.card.libraries.values()


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("onnx", "onnx2tf", "onnx"), ("pt2", "litert_torch", "pytorch")]
)
def test_a_missing_extra_is_told_with_its_pip_command(tmp_path: Path, name: str, package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"the extra {extra} is installed here")
    with pytest.raises(CompressionError, match=rf"pip install 'harness\[{extra}\]'"):
        _make(find_model(str(DATA / f"small-net.{name}")), tmp_path)


@needs_onnx
def test_an_onnx_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("a text that is no model")
    with pytest.raises(CompressionError, match=r"text\.onnx is not a"):
        _make(find_model(str(tmp_path / "text.onnx")), tmp_path)


@needs_onnx
def test_an_onnx_input_of_open_size(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(DATA / "small-net.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(CompressionError, match=r"open shape \(batch, 3, height, 16\)"):
        _make(find_model(str(tmp_path / "open.onnx")), tmp_path)


@needs_onnx
def test_onnx_weights_in_a_file_of_their_own_are_part_of_the_model(tmp_path: Path) -> None:
    import onnx

    path, weights = tmp_path / "net.onnx", tmp_path / "weights.bin"
    model = onnx.load(DATA / "small-net.onnx")
    onnx.save(model, path, save_as_external_data=True, location=weights.name, size_threshold=0)
    before = trace(find_model(str(path)), FLOAT).model_sha256
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert trace(find_model(str(path)), FLOAT).model_sha256 != before
    weights.unlink()
    with pytest.raises(CompressionError, match=r"weights\.bin, which is missing"):
        trace(find_model(str(path)), FLOAT)


def _altered(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return small-net.pt2 with a changed program."""
    path = tmp_path / "altered.pt2"
    with zipfile.ZipFile(DATA / "small-net.pt2") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("models/model.json"):
                program = json.loads(content)
                change(program)
                content = json.dumps(program).encode()
            target.writestr(name, content)
    return path.read_bytes()


def _call_the_shell(program: dict[str, Any]) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def _evaluate_code(program: dict[str, Any]) -> None:
    sizes = program["graph_module"]["graph"]["tensor_values"]["image"]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": "__import__('os').getpid()", "hint": {"as_int": 2}}}


def _guard_with_code(program: dict[str, Any]) -> None:
    program["guards_code"] = ["open('proof', 'w')"]


def test_a_plain_program_passes(tmp_path: Path) -> None:
    check_program(_altered(tmp_path, lambda program: None), tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_call_the_shell, "calls 'torch.os.system'"),
        (_evaluate_code, "not plain arithmetic"),
        (_guard_with_code, "code"),
    ],
)
def test_a_program_that_would_run_code_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    with pytest.raises(CompressionError, match=says):
        check_program(_altered(tmp_path, change), tmp_path / "net.pt2")


def test_a_program_with_a_compiled_library_is_refused(tmp_path: Path) -> None:
    path = shutil.copy(DATA / "small-net.pt2", tmp_path / "net.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/aotinductor/model/net.so", b"\x7fELF")
    with pytest.raises(CompressionError, match=r"data/aotinductor/model/net\.so"):
        check_program(path.read_bytes(), path)


@pytest.mark.parametrize("content", [b"\x80\x02}q\x00.", b"zip"], ids=["pickle", "state-dict"])
def test_a_pickle_is_refused_with_how_to_export(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    if content == b"zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(CompressionError, match=r"is a pickle.*torch\.export\.save"):
        _make(find_model(str(path)), tmp_path)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("a text that is no model")
    with pytest.raises(CompressionError, match="is not a PyTorch program"):
        _make(find_model(str(tmp_path / "text.pt2")), tmp_path)


# Code that belongs to a model

LAYERS = """
import keras

open({proof!r}, "w").close()


class Doubled(keras.layers.Layer):
    def call(self, tensor):
        return tensor * 2
"""


@pytest.fixture
def model_with_code(tmp_path: Path) -> ModelSpec:
    import keras

    proof = str(tmp_path / "it-ran")
    (tmp_path / "my_layers.py").write_text(LAYERS.format(proof=proof))
    own: dict[str, Any] = {"__name__": "my_layers"}
    exec(LAYERS.format(proof=proof), own)
    Path(proof).unlink()
    image = keras.Input((4,))
    keras.Model(image, own["Doubled"]()(image)).save(tmp_path / "net.keras")
    toml = tmp_path / "net.toml"
    toml.write_text('name = "net"\n[source]\nkind = "keras"\npath = "net.keras"\ncustom_objects = "my_layers.py"\n')
    return load_model_spec(toml)


@pytest.mark.training
def test_the_code_of_a_model_runs_only_with_allow_code(
    model_with_code: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CompressionError, match=r"my_layers\.py.*give --allow-code"):
        _make(model_with_code, tmp_path)
    assert not (tmp_path / "it-ran").exists()
    monkeypatch.setenv("HARNESS_ALLOW_CODE", "1")
    variant = _make(model_with_code, tmp_path)
    numbers = np.arange(4, dtype=np.float32)[None]
    assert _outputs(variant.path, numbers).tolist() == (numbers * 2).tolist()
    assert (tmp_path / "it-ran").exists()


@pytest.mark.training
def test_a_layer_that_keras_does_not_know_is_told_with_what_to_do(model_with_code: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r"custom_objects under \[source\], and give --allow-code"):
        load_keras_model(find_model(str(tmp_path / "net.keras")))


@pytest.mark.training
def test_code_that_fails_is_told(model_with_code: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ALLOW_CODE", "1")
    (tmp_path / "my_layers.py").write_text("raise RuntimeError('no luck')")
    with pytest.raises(CompressionError, match="could not be run: RuntimeError: no luck"):
        load_keras_model(model_with_code)


def test_a_change_of_the_code_is_a_change_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes(b"model")
    (tmp_path / "layers.py").write_text("one = 1")
    source = {"kind": "keras", "path": "net.keras", "custom_objects": "layers.py"}
    model = ModelSpec.model_validate({"name": "net", "source": source, "folder": tmp_path})
    before = trace(model, FLOAT).model_sha256
    (tmp_path / "layers.py").write_text("one = 2")
    assert trace(model, FLOAT).model_sha256 != before


@pytest.mark.training
def test_the_flag_reaches_the_worker(harness_cli: Any, model_with_code: ModelSpec) -> None:
    del model_with_code  # it has written the files
    refused = harness_cli("compress", "net.toml", "--recipe", "fp32", HARNESS_CACHE="fresh")
    assert refused.returncode == 1
    assert "give --allow-code" in refused.stderr
    done = harness_cli("compress", "net.toml", "--recipe", "fp32", "--allow-code", HARNESS_CACHE="fresh")
    assert done.returncode == 0, done.stderr
