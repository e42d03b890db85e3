"""How near int8 stays to float, by harness and its peers: `python benchmarks/int8_quality.py MODEL... [--quick]`.

Each MODEL is a name or file with `calibration_images` and `test_images`, or with `--photos FOLDER` any model of one
image: crops of half the folder's photos calibrate, crops of the others test. All sides calibrate on the same samples.
The answers are compared per output: `agrees` is the share of test images with the same largest value, SNR the energy
of the float answers over that of the difference, `range` the share of the float answers' range that int8 reaches.
TFLiteConverter takes part for Keras models alone: it reads no `.tflite` file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from litert_quantizer import recipe as recipes
from litert_quantizer.calibrator import Calibrator
from litert_quantizer.qtyping import TFLOperationName
from litert_quantizer.quantizer import Quantizer
from litert_quantizer.recipe_manager import RecipeManager
from litert_quantizer.utils import qsv_utils
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from harness.compression.graph import quantizer
from harness.compression.graph.float_constants import with_float_constants
from harness.compression.graph.input_moments import measure_input_moments
from harness.compression.graph.ranges import measure_ranges
from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.compression.sources.load import is_keras, load_keras_model
from harness.datasets.arrays import read_arrays
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import ModelSpec, TfliteFile, find_model
from harness.tflite.flatbuffer import read_graph, signature_keys, with_current_codes
from harness.tflite.interpreter import interpret

SAMPLES, QUICK = 200, 20
Floats = NDArray[np.float64]


os.environ["TQDM_DISABLE"] = "1"  # litert-quantizer's progress bars


def main() -> None:
    """Compare, print one table per model, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names or files")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="take crops of these JPEG files as images")
    parser.add_argument("--quick", action="store_true", help=f"calibrate and test on {QUICK} images")
    arguments = parser.parse_args()
    count = QUICK if arguments.quick else SAMPLES
    figures = {name: _compare(find_model(name), arguments.photos, count) for name in arguments.models}
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "int8_quality", "figures": figures, "machine": machine}))


def _compare(model: ModelSpec, photos: Path | None, count: int) -> dict[str, list[dict[str, float]]]:
    graph = quantizer.prepare(_float_graph(model))
    (image,) = read_graph(graph, name=model.name).inputs
    if photos is None:
        assert model.data is not None
        stored = read_arrays(model.locate(model.data.path), ["calibration_images", "test_images"])
        chosen = [stored["calibration_images"][:count], stored["test_images"][:count]]
    else:
        files = sorted(photos.glob("*.jp*g"))
        chosen = [_crops(half, image.shape[1:3], count) for half in (files[::2], files[1::2])]
    scale, offset = model.preprocessing.scale, model.preprocessing.offset
    calibration, inputs = ((images * scale + offset).astype(np.float32) for images in chosen)
    samples = [{image.title: sample[None]} for sample in calibration]
    reference = _answers(graph, inputs)
    table = Table(title=f"int8 of {model.name} against float, {len(inputs)} images", title_justify="left")
    for column in ("made by", "kB", "agrees %", "SNR dB", "cosine", "range %"):
        table.add_column(column, justify="left" if column == "made by" else "right")
    figures = {}
    for name, content in _contestants(model, graph, samples):
        print(f"{model.name}: {name}", file=sys.stderr)
        found = [_nearness(*pair) for pair in zip(_answers(content, inputs), reference, strict=True)]
        figures[name] = found
        cells = ["\n".join(f"{output[key]:.{places}f}" for output in found) for key, places in _COLUMNS]
        table.add_row(name, f"{len(content) / 1000:.0f}", *cells)
    Console(width=110).print(table)
    return figures


def _float_graph(model: ModelSpec) -> bytes:
    if isinstance(model.source, TfliteFile):  # also one with operators that phones lack
        return with_float_constants(with_current_codes(model.locate(model.source.path).read_bytes()))
    return make_variant(
        model, builtin_recipes()["fp32"], cache=cache_folder(), observer=SilentObserver()
    ).path.read_bytes()


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


_COLUMNS = (("agrees", 1), ("snr_db", 1), ("cosine", 4), ("range", 1))


def _contestants(model: ModelSpec, graph: bytes, samples: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    (key,) = signature_keys(graph)
    moments = measure_input_moments(graph, {key: samples})
    for rule, rounding in (("extremes", "error-aware"), ("percentile", "error-aware"), ("extremes", "nearest")):
        ranges = measure_ranges(graph, {key: samples}, rule)
        yield (
            f"harness, {rule}, {rounding}",
            quantizer.quantize(
                graph,
                [quantizer.FormatRule("int8", "int8")],
                ranges=ranges,
                moments=moments if rounding == "error-aware" else None,
            ),
        )
    manager = RecipeManager()
    manager.load_quantization_recipe(recipes.static_wi8_ai8())
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # float, as those of the others
        manager.add_quantization_config(".*", end, algorithm_key="no_quantize")
    peer = Quantizer(bytearray(graph), manager.get_quantization_recipe())
    yield "litert-quantizer, default", bytes(peer.quantize(peer.calibrate({key: samples})).quantized_model)
    calibrator = Calibrator(bytearray(graph), qsv_update_func=qsv_utils.min_max_update)
    calibrator.calibrate({key: samples}, manager)
    yield "litert-quantizer, min-max", bytes(peer.quantize(calibrator.get_model_qsvs()).quantized_model)
    if is_keras(model):
        yield "TFLiteConverter", _converted(model, samples)


def _converted(model: ModelSpec, samples: list[dict[str, Any]]) -> bytes:
    import keras
    import tensorflow as tf

    network = load_keras_model(model)
    image = keras.Input(batch_shape=(1, *network.inputs[0].shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, network(image, training=False)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([*sample.values()] for sample in samples)
    return bytes(converter.convert())


def _answers(graph: bytes, inputs: NDArray[np.float32]) -> list[Floats]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.tflite")
        path.write_bytes(graph)
        return [np.asarray(output, np.float64).reshape(len(inputs), -1) for output in interpret(str(path), [inputs], 1)]


def _nearness(found: Floats, wanted: Floats) -> dict[str, float]:
    error = ((found - wanted) ** 2).sum()
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return {
        "agrees": 100 * float((found.argmax(1) == wanted.argmax(1)).mean()),
        "snr_db": 10 * float(np.log10((wanted**2).sum() / max(error, 1e-30))),
        "cosine": float(((found * wanted).sum(1) / np.maximum(lengths, 1e-30)).mean()),
        "range": 100 * float(np.ptp(found) / max(np.ptp(wanted), 1e-30)),
    }


if __name__ == "__main__":
    main()
