"""Making variants of a .tflite file, the cache, and everything that can go wrong; none of this needs TensorFlow."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_graphs import INPUT_SIZE, dense_graph

from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.worker import CompressionJob, run_worker
from harness.errors import CompressionError, FailureClass
from harness.progress import SilentObserver
from harness.spec.model import Data, ModelSpec, Preprocessing, find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.variant import Variant

RECIPES = builtin_recipes()
ModelMaker = Callable[..., ModelSpec]


def _make(model: ModelSpec, recipe: str | Recipe, cache: Path, said: list[str] | None = None) -> Variant:
    chosen = RECIPES[recipe] if isinstance(recipe, str) else recipe
    return make_variant(model, chosen, cache=cache, observer=_Listener(said if said is not None else []))


class _Listener(SilentObserver):
    def __init__(self, said: list[str]) -> None:
        self._said = said

    def note(self, text: str) -> None:
        self._said.append(text)


def _random_int8(**settings: object) -> Recipe:
    values = {"activations": "int8", "calibration": "random", **settings}
    return Recipe(name="noise", steps=(Step(technique="quantization", settings=values),))


def _outputs(path: Path) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (first,) = interpreter.get_input_details()
    (last,) = interpreter.get_output_details()
    inputs = np.random.default_rng(1).uniform(0, 1, (1, INPUT_SIZE)).astype(np.float32)
    interpreter.set_tensor(first["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(last["index"])


def test_a_file_as_it_is(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    for recipe in ("fp32", "as-is"):
        variant = _make(model, recipe, tmp_path)
        assert variant.path.read_bytes() == dense_graph()
        assert variant.card.sha256 == variant.card.model_sha256


@pytest.mark.parametrize(
    ("recipe", "weights"), [("fp16", "float16"), ("dynamic-int8", "int8"), (_random_int8(ranges="extremes"), "int8")]
)
def test_quantizing_a_float_file(graph_model: ModelMaker, tmp_path: Path, recipe: str | Recipe, weights: str) -> None:
    pixels = Preprocessing(scale=1 / 255)  # noise then covers 0 to 1, as the inputs of `_outputs` do
    model = graph_model().model_copy(update={"preprocessing": pixels})
    plain, variant = _make(model, "fp32", tmp_path), _make(model, recipe, tmp_path)
    assert variant.card.weight_types[weights] in (128, 64)  # 64 weights of two bytes or one
    error = np.abs(_outputs(variant.path) - _outputs(plain.path)).max()
    assert error < 0.1 * np.abs(_outputs(plain.path)).max()


def test_a_second_call_takes_the_variant_from_the_cache(graph_model: ModelMaker, tmp_path: Path) -> None:
    loaded = "tensorflow" in sys.modules  # another test may have loaded it into this process
    model, said = graph_model(), []
    first = _make(model, "fp16", tmp_path, said)
    written = first.path.stat().st_mtime_ns
    second = _make(model, "fp16", tmp_path, said)
    assert second == first
    assert second.path.stat().st_mtime_ns == written
    assert said == ["Building fp16 of dense."]
    assert ("tensorflow" in sys.modules) == loaded


def test_equal_inputs_give_equal_bytes(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    for recipe in ("fp16", "dynamic-int8", _random_int8()):
        one, two = (_make(model, recipe, tmp_path / name) for name in ("one", "two"))
        assert one.path.read_bytes() == two.path.read_bytes()


def test_a_changed_model_recipe_or_preprocessing_is_another_variant(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    paths = {_make(model, _random_int8(), tmp_path).path}
    paths.add(_make(model, _random_int8(calibration_samples=7), tmp_path).path)
    scaled = model.model_copy(update={"preprocessing": model.preprocessing.model_copy(update={"scale": 0.5})})
    paths.add(_make(scaled, _random_int8(), tmp_path).path)
    model.locate(model.source.path).write_bytes(dense_graph(version=2))
    paths.add(_make(model, _random_int8(), tmp_path).path)
    assert len(paths) == 4


@pytest.mark.parametrize("damage", ["cut", "gone", "card"])
def test_a_damaged_cache_is_made_again(graph_model: ModelMaker, tmp_path: Path, damage: str) -> None:
    model, said = graph_model(), []
    variant = _make(model, "fp16", tmp_path, said)
    content = variant.path.read_bytes()
    if damage == "cut":
        variant.path.write_bytes(content[:100])
    elif damage == "gone":
        variant.path.unlink()
    else:
        variant.path.with_suffix(".json").write_text('{"half": ')
    assert _make(model, "fp16", tmp_path, said).path.read_bytes() == content
    assert len(said) == 2


def test_two_at_once_make_it_once(graph_model: ModelMaker, tmp_path: Path) -> None:
    model, said = graph_model(), []
    with ThreadPoolExecutor(4) as pool:
        variants = list(pool.map(lambda _: _make(model, "dynamic-int8", tmp_path, said), range(4)))
    assert len(said) == 1
    assert len({variant.path for variant in variants}) == 1
    assert not list(variants[0].path.parent.glob("*.making"))


def test_names_with_spaces_quotes_and_slashes(tmp_path: Path) -> None:
    path = tmp_path / "a 'b' $(c) ü.tflite"
    path.write_bytes(dense_graph())
    recipe = Recipe(name="../../up & away")
    variant = _make(find_model(str(path)), recipe, tmp_path / "cache")
    assert variant.path.parent == tmp_path / "cache" / "variants"
    assert variant.name == "../../up & away"


def test_no_data_to_calibrate_on_is_an_error_that_says_what_to_do(graph_model: ModelMaker, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match=r'no data to calibrate on.*calibration = "random"'):
        _make(graph_model(), "int8", tmp_path)


def test_random_calibration_is_named_in_the_card(graph_model: ModelMaker, tmp_path: Path) -> None:
    card = _make(graph_model(), _random_int8(), tmp_path).card
    assert card.calibration is not None
    assert card.calibration.startswith("random")


def _with_data(model: ModelSpec, path: Path) -> ModelSpec:
    return model.model_copy(update={"data": Data(path=path, licence="none", origin="test")})


def test_calibration_on_real_data_is_named_with_its_digest(graph_model: ModelMaker, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, calibration_images=np.random.default_rng(0).integers(0, 2, (20, INPUT_SIZE)).astype(np.uint8))
    model = _with_data(graph_model(), data)
    first = _make(model, "int8", tmp_path)
    assert first.card.calibration is not None
    assert "data.npz (SHA-256 " in first.card.calibration
    np.savez(data, calibration_images=np.ones((20, INPUT_SIZE), np.uint8))
    assert _make(model, "int8", tmp_path).path != first.path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"calibration_images": np.zeros((3, 7), np.uint8)}, r"shape \(3, 7\), but the model's input is \(1, 16\)"),
        ({"calibration_images": np.zeros((0, INPUT_SIZE), np.uint8)}, r"shape \(0, 16\)"),
        ({"test_images": np.zeros((3, INPUT_SIZE), np.uint8)}, "no array calibration_images"),
        (b"no zip at all", "is no NumPy file"),
        (None, "cannot be read"),
    ],
)
def test_calibration_data_that_does_not_fit(
    graph_model: ModelMaker, tmp_path: Path, content: dict[str, np.ndarray] | bytes | None, says: str
) -> None:
    data = tmp_path / "data.npz"
    if isinstance(content, bytes):
        data.write_bytes(content)
    elif content is not None:
        np.savez(data, **content)  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match=says):
        _make(_with_data(graph_model(), data), "int8", tmp_path)


def test_pickled_data_is_not_run(graph_model: ModelMaker, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    data = tmp_path / "data.npz"
    np.savez(data, calibration_images=np.array([Bomb()], dtype=object))
    with pytest.raises(CompressionError, match="holds Python objects"):
        _make(_with_data(graph_model(), data), "int8", tmp_path)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("recipe", ["as-is", "fp16"])
@pytest.mark.parametrize("content", [b"", b"not a model", dense_graph()[:300]])
def test_a_bad_file_is_an_invalid_model(tmp_path: Path, content: bytes, recipe: str) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(CompressionError) as caught:
        _make(find_model(str(path)), recipe, tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL
    assert not list(tmp_path.glob("variants/*.tflite"))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.tflite"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: takes no space
    with pytest.raises(CompressionError, match="more than 2 GiB") as caught:
        _make(find_model(str(path)), "as-is", tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


def test_a_file_that_went_away(graph_model: ModelMaker, tmp_path: Path) -> None:
    model = graph_model()
    model.locate(model.source.path).unlink()
    with pytest.raises(CompressionError, match="No such file") as caught:
        _make(model, "as-is", tmp_path)
    assert caught.value.failure.failure_class is FailureClass.INVALID_MODEL


def test_custom_operators_are_refused_for_the_default_target_but_kept_as_is(
    graph_model: ModelMaker, tmp_path: Path
) -> None:
    model = graph_model(custom_operator="MyOp")
    with pytest.raises(CompressionError, match="MyOp") as caught:
        _make(model, "fp32", tmp_path)
    assert caught.value.failure.failure_class is FailureClass.UNSUPPORTED_OP
    assert _make(model, "as-is", tmp_path).card.custom_operators == ("MyOp",)


def test_a_quantized_file_is_neither_called_fp32_nor_quantized_again(graph_model: ModelMaker, tmp_path: Path) -> None:
    quantized = find_model(str(_make(graph_model(), "dynamic-int8", tmp_path).path))
    for recipe in ("fp32", "fp16", "dynamic-int8"):
        with pytest.raises(CompressionError, match="quantized already"):
            _make(quantized, recipe, tmp_path)
    assert _make(quantized, "as-is", tmp_path).card.weight_types.keys() >= {"int8"}


def test_dense_layers_have_one_scale_for_old_runtimes_and_a_raised_version_for_current(
    graph_model: ModelMaker, tmp_path: Path
) -> None:
    step = Step(technique="quantization", settings={"weights": "int8"})
    old = _make(graph_model(), Recipe(name="old", steps=(step,)), tmp_path)
    new = _make(graph_model(), Recipe(name="new", steps=(step,), target_runtime="current"), tmp_path)
    assert (_weight_scales(old.path), old.card.operator_versions) == (1, {"FULLY_CONNECTED": 1})
    assert (_weight_scales(new.path), new.card.operator_versions) == (4, {"FULLY_CONNECTED": 12})


def _weight_scales(path: Path) -> int:
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(path)).get_tensor_details()
    (weights,) = [tensor for tensor in details if tensor["dtype"] == np.int8]
    return len(weights["quantization_parameters"]["scales"])


def test_a_cache_that_cannot_be_written(graph_model: ModelMaker, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the cache should be")
    with pytest.raises(CompressionError, match="cannot be written"):
        _make(graph_model(), "fp16", blocked)


def _job(model: ModelSpec, folder: Path) -> CompressionJob:
    return CompressionJob(
        model=model,
        recipe=RECIPES["fp16"],
        kept=folder,
        step_keys=("none", "all"),
        variant=folder / "variant.tflite",
        facts=folder / "facts.json",
        failure=folder / "failure.json",
        progress=folder / "progress.json",
    )


def test_a_worker_that_takes_too_long_is_ended(graph_model: ModelMaker, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="not done after 0 s") as caught:
        run_worker(_job(graph_model(), tmp_path), time_limit_s=0.01)
    assert caught.value.failure.failure_class is FailureClass.TIMEOUT


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("os.kill(os.getpid(), 11)", FailureClass.CRASHED),
        ("os.kill(os.getpid(), 9)", FailureClass.OUT_OF_MEMORY),
        ("os._exit(3)", FailureClass.CONVERSION_FAILED),
        ("os._exit(0)", FailureClass.CONVERSION_FAILED),
    ],
)
def test_a_worker_that_dies_is_a_failure_with_what_it_printed(
    graph_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, expected: FailureClass
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nif 'harness.compression.worker' in sys.orig_argv:\n"
        f"    os.write(2, b'last words')\n    {ending}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CompressionError) as caught:
        run_worker(_job(graph_model(), tmp_path))
    assert caught.value.failure.failure_class is expected
    assert "last words" in caught.value.failure.evidence


def test_a_full_disk_is_told_as_such(graph_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib\ndef full(*_): raise OSError(28, 'No space left on device')\npathlib.Path.write_bytes = full\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CompressionError, match="No space left") as caught:
        run_worker(_job(graph_model(), tmp_path))
    assert caught.value.failure.failure_class is FailureClass.STORAGE_FULL


def test_a_disk_too_full_for_the_reason_is_told_all_the_same(graph_model: ModelMaker, tmp_path: Path) -> None:
    job = _job(graph_model(), tmp_path)
    job.failure.write_text("")  # what a full disk leaves of it
    with pytest.raises(CompressionError, match="No space is left") as caught:
        run_worker(job)
    assert caught.value.failure.failure_class is FailureClass.STORAGE_FULL
