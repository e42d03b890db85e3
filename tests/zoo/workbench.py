"""Carry out recipes on a network of the zoo in this process, and run the variants here and in the official tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networks
import numpy as np
from official_runtime import run_official

from harness.compression.recipe_state import RecipeState, WorkerServices
from harness.compression.recipes import find_recipe, leading_weight_steps
from harness.compression.registry import get_technique
from harness.compression.sources.keras import load_keras_file
from harness.compression.sources.load import convert
from harness.spec.model import ModelSpec, find_model
from harness.spec.recipe import Recipe

CALIBRATION_SAMPLES = 60
TEST_SAMPLES = 24
TRAINING_SAMPLES = 64
_EXACT_DB = 140.0
"""Given to outputs without any error, and to outputs that never change."""

Outputs = dict[str, Any]
"""By the names of the signature, the samples first."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One network: the Keras model, its float graph, its samples, and the answers of Keras."""

    name: str
    model: Any
    graph: bytes
    spec: ModelSpec
    calibration: list[Any]
    inputs: list[Any]
    answers: list[Any]
    folder: Path
    load: Callable[[], Any]
    """Load the Keras model once more: steps that change weights do so in place."""

    def make(self, recipe: str) -> bytes:
        """Return the variant of a built-in recipe. Raises `CompressionError`."""
        return self.carry_out(find_recipe(recipe)).graph()

    def carry_out(self, recipe: Recipe, convert: Callable[[Any], bytes] = convert) -> RecipeState:
        """Return what a recipe ends with. Raises `CompressionError`."""
        services = WorkerServices(
            load_keras_model=self.load,
            load_graph=lambda: self.graph,
            convert=convert,
            kept_folder=self.folder / "kept",
            step_folder=lambda index: self.folder / f"{recipe.name}-{index}",
            progress=lambda *_: None,
        )
        state = RecipeState(self.spec, recipe.target_runtime, services)
        if not leading_weight_steps(recipe):
            state.graph()
        for index, step in enumerate(recipe.steps):
            technique = get_technique(step.technique, origin="the zoo")
            state.begin_step(index, technique.name)
            technique.apply(state, technique.settings(step, origin="the zoo"))
        return state


def prepare(name: str, folder: Path) -> Subject:
    """Build a network, save it as people do, load and convert it as harness does, and let Keras answer."""
    from ai_edge_litert.interpreter import Interpreter

    built = networks.build(name)
    inputs = networks.samples(built, TEST_SAMPLES, seed=2)
    answers = built(inputs if len(inputs) > 1 else inputs[0], training=False)
    file = folder / f"{name}.keras"
    built.save(file)
    model = load_keras_file(file, None)
    graph = convert(model)
    calibration = networks.samples(model, CALIBRATION_SAMPLES, seed=1)
    names = _in_order(Interpreter(model_content=graph).get_signature_runner().get_input_details())
    arrays = {f"calibration_{name}": array for name, array in zip(names, calibration, strict=True)}
    if len(calibration) == 1:
        arrays = {"calibration_images": calibration[0]}
    np.savez(folder / "data.npz", **arrays)
    spec = folder / f"{name}.toml"
    spec.write_text(f'name = "{name}"\n[source]\nkind = "keras"\npath = "{file.name}"\n[data]\npath = "data.npz"\n')
    return Subject(
        name,
        model,
        graph,
        find_model(str(spec)),
        calibration,
        inputs,
        keras_arrays(answers),
        folder,
        lambda: load_keras_file(file, None),
    )


def keras_arrays(answers: Any) -> list[Any]:
    """Return what Keras answers as a list of arrays, also if it is only one."""
    return [np.asarray(array) for array in (answers if isinstance(answers, list) else [answers])]


def with_training_images(subject: Subject) -> Subject:
    """Return the network with bytes to train and calibrate on, and labels that are its own answers."""
    images = networks.samples(subject.model, TRAINING_SAMPLES, seed=3)[0]
    is_bytes = images.dtype == np.uint8
    scale = 1.0 if is_bytes else 1 / 255
    train, calibration = (
        array if is_bytes else np.rint(array * 255).astype(np.uint8) for array in (images, subject.calibration[0])
    )
    answers = np.asarray(subject.model(train if is_bytes else train * np.float32(scale), training=False))
    np.savez(subject.folder / "data.npz", calibration_images=calibration)
    np.savez(subject.folder / "train.npz", train_images=train, train_labels=answers.argmax(1))
    spec = subject.folder / f"{subject.name}.toml"
    training = '[training.data]\nkind = "numpy"\npath = "train.npz"\n'
    spec.write_text(f"{spec.read_text()}{training}[preprocessing]\nscale = {scale!r}\n")
    return replace(subject, spec=find_model(str(spec)))


def convert_to_int8(subject: Subject) -> bytes:
    """Return what TensorFlow's converter makes of the network in int8, calibrated on the same samples."""
    import keras
    import tensorflow as tf

    tensors = [keras.Input(batch_shape=(1, *tensor.shape[1:]), dtype=tensor.dtype) for tensor in subject.model.inputs]
    outputs = subject.model(tensors if len(tensors) > 1 else tensors[0], training=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(tensors, outputs))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [array[index : index + 1] for array in subject.calibration] for index in range(CALIBRATION_SAMPLES)
    )
    return bytes(converter.convert())


def run_on_host(content: bytes, inputs: Sequence[Any], signature: str | None = None) -> list[Any]:
    """Return the outputs in LiteRT, in the order of the signature's names; integers become real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(signature)
    wanted, given = runner.get_input_details(), runner.get_output_details()
    found: dict[str, list[Any]] = {name: [] for name in sorted(given)}
    for index in range(len(inputs[0])):
        feed = {
            name: _encode(array[index : index + 1], wanted[name])
            for name, array in zip(_in_order(wanted), inputs, strict=True)
        }
        for name, array in runner(**feed).items():
            found[name].append(_decode(array, given[name]))
    return [np.concatenate(arrays) for arrays in found.values()]


def run_in_2_14(
    tools: Path, content: bytes, inputs: Sequence[Any], folder: Path, *flags: str, signature: str | None = None
) -> list[Any]:
    """Return what the official benchmark_model 2.14.1 computes, ordered and decoded as by `run_on_host`.

    It runs the main graph, which must be the signature's.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(signature)
    wanted, given = runner.get_input_details(), runner.get_output_details()
    places = {detail["index"]: place for place, detail in enumerate(interpreter.get_input_details())}
    by_place = sorted(zip(_in_order(wanted), inputs, strict=True), key=lambda pair: places[wanted[pair[0]]["index"]])
    path = folder / "variant.tflite"
    path.write_bytes(content)
    found: dict[str, list[Any]] = {name: [] for name in sorted(given)}
    for index in range(len(inputs[0])):
        feed = [_encode(array[index : index + 1], wanted[name]) for name, array in by_place]
        (folder / "out.bin").unlink(missing_ok=True)
        finished = run_official(tools, path, feed, folder, *flags)
        assert finished.returncode == 0, "\n".join(line for line in finished.stderr.splitlines() if "ERROR" in line)
        arrays = _split((folder / "out.bin").read_bytes(), interpreter.get_output_details())
        for name, kept in found.items():
            kept.append(_decode(arrays[given[name]["index"]], given[name]))
    return [np.concatenate(arrays) for arrays in found.values()]


def _split(raw: bytes, details: Sequence[dict[str, Any]]) -> dict[int, Any]:
    """Return the outputs by tensor; the tool writes them one after the other, in the graph's order."""
    found, start = {}, 0
    for detail in details:
        shape, kind = tuple(detail["shape"]), np.dtype(detail["dtype"])
        size = int(np.prod(shape))
        found[detail["index"]] = np.frombuffer(raw, kind, size, start).reshape(shape)
        start += size * kind.itemsize
    assert start == len(raw)
    return found


def _in_order(details: dict[str, Any]) -> list[str]:
    """Return the names as Keras orders its inputs: the converter calls them args_0, args_0_1 and so on."""
    return sorted(details, key=lambda name: [int(part) if part.isdigit() else part for part in name.split("_")])


def _encode(array: Any, detail: dict[str, Any]) -> Any:
    scale, zero = detail["quantization"]
    if not scale or array.dtype == detail["dtype"]:
        return array.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(array / scale + zero), limits.min, limits.max).astype(detail["dtype"])


def _decode(array: Any, detail: dict[str, Any]) -> Any:
    scale, zero = detail["quantization"]
    return (array.astype(np.float64) - zero) * scale if scale else array


def signal_to_noise_db(wanted: Any, found: Any) -> float:
    """Return the power of the wanted values around their mean over that of the error, in dB."""
    wanted, found = np.asarray(wanted, np.float64).ravel(), np.asarray(found, np.float64).ravel()
    noise = np.mean((wanted - found) ** 2)
    signal = np.var(wanted)
    if noise <= signal * 10 ** (-_EXACT_DB / 10):
        return _EXACT_DB
    if not signal or not np.isfinite(noise):
        return -_EXACT_DB
    return float(10 * np.log10(signal / noise))


def energy_ratio_db(wanted: Any, found: Any) -> float:
    """Return the energy of the wanted values over that of the error, in dB: what recipes call signal to noise."""
    wanted, found = np.asarray(wanted, np.float64), np.asarray(found, np.float64)
    return float(10 * np.log10(np.square(wanted).sum() / max(np.square(wanted - found).sum(), 1e-30)))
