"""What harness's recipes buy against its peers' defaults: `python benchmarks/compression.py [--quick] [--cache DIR]`.

Three questions, each answered side by side on the same model (the default one), data and machine:

* front: at each accuracy drop up to 1 point, which file packs smallest, and is any faster than float? Peers are
  TFLiteConverter's and litert-quantizer's default recipes, and tensorflow-model-optimization's (see
  `compression_tfmot.py`; a process of its own, since it needs Keras 2).
* time: eight quantized variants against eight separate runs of TFLiteConverter, from the Keras file each.
* memory: the largest process of each side.

Accuracy is top-1 on all 10,000 test images of Fashion-MNIST, on this host. `--quick` leaves out whatever trains.

`--model MODEL --photos FOLDER` answers another question instead, for any model of one image: how near does each format
stay to float without training? See `compression_quality.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import recipe as recipes
from litert_quantizer.quantizer import Quantizer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.accuracy.output_check import proportion
from harness.cli.options import pixel_range
from harness.compression.calibration import CalibrationRequest, calibration_samples
from harness.compression.make import make_variant
from harness.compression.recipes import builtin_recipes
from harness.errors import CompressionError
from harness.paths import cache_folder
from harness.progress import SilentObserver
from harness.spec.model import find_model
from harness.spec.recipe import Recipe, Step
from harness.tflite.flatbuffer import read_graph
from harness.tflite.interpreter import interpret
from harness.tflite.tensors import encode

HERE = Path(__file__).resolve().parent
# Scripts are started with -P: statistics.py beside them must not be taken for Python's own.
MODEL = "fashion-dscnn"
DROPS_POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS, RUNS = 12, 40
TFMOT_LAST = "prune50-cluster16-qat-int8.tflite"
"""What `compression_tfmot.py` writes last."""
EIGHT = ("dynamic-int8", "fp16", "int8", "int8-io", "int16x8", "int8-tensor", "int4")


@dataclass
class Contestant:
    """One file and what it is worth."""

    side: str
    name: str
    content: bytes
    top1: float = 0.0
    low: float = 0.0
    high: float = 0.0
    latency_us: float = 0.0

    @property
    def zip_bytes(self) -> int:
        """Size as in an APK."""
        return len(gzip.compress(self.content, mtime=0))


def main() -> None:
    """Measure, print the tables, and end with one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out whatever trains: about a minute")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained variants are kept")
    parser.add_argument("--without", action="append", default=[], help="leave a recipe out; repeat for several")
    parser.add_argument("--model", help="name or file: print how near its variants made without training are to float")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="with --model: take crops of these JPEG files")
    parser.add_argument("--class", dest="classes", help="with --model: these classes alone, such as int8,int4")
    parser.add_argument(
        "--pixels", metavar="LOW..HIGH", help="with --model: what 0..255 become, such as --pixels=-1..1"
    )
    parser.add_argument("--side", choices=("harness", "converter"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        import compression_quality

        classes = arguments.classes.split(",") if arguments.classes else compression_quality.CLASSES
        if unknown := set(classes) - set(compression_quality.CLASSES):
            parser.error(
                f"Invalid value {unknown.pop()!r} for --class. Choose {', '.join(compression_quality.CLASSES)}."
            )
        compression_quality.compare(
            arguments.model,
            arguments.photos,
            quick=arguments.quick,
            classes=classes,
            pixels=pixel_range(arguments.pixels),
        )
        return
    if arguments.side:
        print(json.dumps(_eight_variants(arguments.side)))
        return
    figures: dict[str, Any] = {}
    contestants = [
        *_ours(arguments.cache, arguments.quick, arguments.without),
        *_converter(),
        *_quantizer(arguments.cache),
    ]
    if not arguments.quick:
        contestants += _model_optimization(arguments.cache)
    _judge(contestants)
    _show_front(contestants, figures)
    _time_and_memory(figures)
    machine = {"cores": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "compression", "figures": figures, "machine": machine}))


def _ours(cache: Path, quick: bool, without: list[str]) -> Iterator[Contestant]:
    model = find_model(MODEL)
    for recipe in builtin_recipes().values():
        if recipe.name in ("as-is", *without) or (quick and any("epochs" in step.settings for step in recipe.steps)):
            continue
        try:
            variant = make_variant(model, recipe, cache=cache, observer=SilentObserver())
        except CompressionError as error:
            print(f"{recipe.name}: {error.failure.message}", file=sys.stderr)
            continue
        yield Contestant("harness", recipe.name, variant.path.read_bytes())


def _converter() -> Iterator[Contestant]:
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.executable, "-P", str(HERE / "compression_converter.py"), folder]
        subprocess.run(script, check=True, capture_output=True, timeout=1800)
        for path in sorted(Path(folder).glob("*.tflite")):
            yield Contestant("TFLiteConverter", path.stem, path.read_bytes())


def _quantizer(cache: Path) -> Iterator[Contestant]:
    float_graph = make_variant(find_model(MODEL), builtin_recipes()["fp32"], cache=cache, observer=SilentObserver())
    graph = bytearray(float_graph.path.read_bytes())
    samples = calibration_samples(find_model(MODEL), bytes(graph), CalibrationRequest("data", 200))
    for name in ("dynamic_wi8_afp32", "dynamic_wi4_afp32", "static_wi8_ai8", "static_wi8_ai16"):
        quantizer = Quantizer(graph, getattr(recipes, name)())
        ranges = quantizer.calibrate({"serving_default": samples}) if name.startswith("static") else None
        yield Contestant("litert-quantizer", name, bytes(quantizer.quantize(ranges).quantized_model))


def _model_optimization(cache: Path) -> Iterator[Contestant]:
    folder = cache / "benchmark-tfmot"  # kept, since it trains for a quarter of an hour
    if not (folder / TFMOT_LAST).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        script = [sys.executable, "-P", str(HERE / "compression_tfmot.py"), str(folder)]
        done = subprocess.run(script, check=False, capture_output=True, text=True, timeout=5400)
        if done.returncode:
            raise SystemExit(f"compression_tfmot.py failed:\n{done.stderr[-2000:]}")
    for path in sorted(folder.glob("*.tflite")):
        yield Contestant("tfmot", path.stem, path.read_bytes())


def _judge(contestants: list[Contestant]) -> None:
    """Fill in accuracy and latency; latencies are taken in turns, so that a slow moment falls on all."""
    images, labels = _test_images()
    scaled = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index, one in enumerate(contestants):
            path = Path(folder, f"{index}.tflite")
            path.write_bytes(one.content)
            paths.append(path)
            tensor = read_graph(one.content, name=one.name).inputs[0]
            scores = interpret(str(path), [encode(scaled, tensor)], 2)[0]
            found = proportion(int((scores.argmax(1) == labels).sum()), len(labels))
            one.top1, one.low, one.high = found.value, found.low, found.high
        for one, latency_us in zip(contestants, _latencies_us(paths), strict=True):
            one.latency_us = latency_us


def _latencies_us(paths: list[Path]) -> list[float]:
    interpreters = [Interpreter(model_path=str(path), num_threads=1) for path in paths]
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        interpreter.invoke()
    rounds: list[list[float]] = [[] for _ in paths]
    for _ in range(ROUNDS):
        for interpreter, found in zip(interpreters, rounds, strict=True):
            started = time.perf_counter()
            for _ in range(RUNS):
                interpreter.invoke()
            found.append((time.perf_counter() - started) / RUNS * 1e6)
    return [float(np.median(found)) for found in rounds]


def _test_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all 10,000 test images, as the script that trained the default model reads them."""
    sys.path.insert(0, str(HERE.parent / "models"))
    from train_fashion_dscnn import load_fashion_mnist

    _, (images, labels) = load_fashion_mnist()
    return images[..., None], labels


def _show_front(contestants: list[Contestant], figures: dict[str, Any]) -> None:
    reference = next(one for one in contestants if (one.side, one.name) == ("harness", "fp32"))
    table = Table(title=f"{MODEL}: top-1 of 10,000, size as in an APK, latency on this host (1 thread)")
    for heading in ("side", "recipe"):
        table.add_column(heading)
    for heading in ("top-1 %", "95 %", "drop", "size kB", "zip kB", "latency us"):
        table.add_column(heading, justify="right")
    for one in sorted(contestants, key=lambda one: one.zip_bytes):
        table.add_row(
            one.side,
            one.name,
            f"{100 * one.top1:.2f}",
            f"{100 * one.low:.1f}..{100 * one.high:.1f}",
            f"{100 * (reference.top1 - one.top1):.2f}",
            f"{len(one.content) / 1000:.1f}",
            f"{one.zip_bytes / 1000:.1f}",
            f"{one.latency_us:.0f}",
        )
    Console(width=110).print(table)
    front = Table(title="smallest zip size at each accuracy drop")
    for heading in ("drop up to", "harness", "kB", "best peer", "kB", "ratio"):
        front.add_column(heading, justify="left" if heading in ("harness", "best peer") else "right")
    figures["front"] = []
    for drop in DROPS_POINTS:
        within = [one for one in contestants if 100 * (reference.top1 - one.top1) <= drop + 1e-9]
        ours = min((one for one in within if one.side == "harness"), key=lambda one: one.zip_bytes)
        theirs = min((one for one in within if one.side != "harness"), key=lambda one: one.zip_bytes, default=None)
        ratio = ours.zip_bytes / theirs.zip_bytes if theirs else None
        front.add_row(
            f"{drop:.2f}",
            ours.name,
            f"{ours.zip_bytes / 1000:.1f}",
            f"{theirs.side} {theirs.name}" if theirs else "none",
            f"{theirs.zip_bytes / 1000:.1f}" if theirs else "-",
            f"{ratio:.2f}" if ratio else "-",
        )
        figures["front"].append({"drop_points": drop, "harness": ours.name, "ratio": ratio})
    Console(width=110).print(front)
    fast = [one for one in contestants if 100 * (reference.top1 - one.top1) <= DROPS_POINTS[-1]]
    best = {
        side: min(one.latency_us for one in fast if (one.side == "harness") == ours)
        for side, ours in (("harness", True), ("peers", False))
    }
    figures["fastest_us"] = best
    print(f"fastest within {DROPS_POINTS[-1]} point: harness {best['harness']:.0f} us, peers {best['peers']:.0f} us")


def _time_and_memory(figures: dict[str, Any]) -> None:
    """Make eight variants on each side, each side in a process of its own with nothing cached."""
    table = Table(title="eight quantized variants from the Keras file, nothing cached")
    for heading in ("side", "wall s", "peak MB"):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    found = {}
    for side in ("harness", "converter"):
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--side", side]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
        found[side] = json.loads(done.stdout.splitlines()[-1])
        table.add_row(side, f"{found[side]['wall_s']:.1f}", f"{found[side]['peak_mb']:.0f}")
    Console(width=110).print(table)
    ratio = found["harness"]["wall_s"] / found["converter"]["wall_s"]
    print(f"wall time ratio {ratio:.2f}")
    figures["eight_variants"] = found | {"ratio": ratio}


def _eight_variants(side: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if side == "harness":
            _eight_of_ours(Path(folder))
        else:
            for index in range(8):
                script = [sys.executable, "-P", str(HERE / "compression_converter.py"), folder, "--only", str(index)]
                subprocess.run(script, check=True, capture_output=True, timeout=1800)
        wall_s = time.perf_counter() - started
    usage = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return {"wall_s": wall_s, "peak_mb": usage / 1024}


def _eight_of_ours(cache: Path) -> None:
    recipes = builtin_recipes()
    extra = Recipe(
        name="int8-mean",
        steps=(Step(technique="quantization", settings={"activations": "int8", "ranges": "mean"}),),
    )
    for recipe in [*(recipes[name] for name in EIGHT), extra]:
        make_variant(find_model(MODEL), recipe, cache=cache, observer=SilentObserver())


if __name__ == "__main__":
    main()
