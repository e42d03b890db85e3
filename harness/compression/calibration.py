"""Which samples a quantizer sees. Real data is the rule; noise has to be asked for and is named in the card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.datasets.arrays import ArraysUnreadableError, read_arrays
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sample = dict[str, NDArray[Any]]
    """One set of inputs, by their names in the graph's signature; shapes include the batch of one."""

RANDOM_SEED = 0


@dataclass(frozen=True)
class CalibrationRequest:
    """What a recipe asks for."""

    kind: Literal["data", "random"]
    samples: int


def describe_calibration(model: ModelSpec, request: CalibrationRequest) -> str:
    """Say in one line what is used, with the SHA-256 of the data file, without reading images.

    Raises `CompressionError` when real data is asked for and the model has none.
    """
    if request.kind == "random":
        return f"random: {request.samples} samples of noise, seed {RANDOM_SEED}; accuracy means nothing"
    if model.data is None:
        raise _problem(
            f"Model {model.name!r} has no data to calibrate on, which this recipe needs. Add [data] with "
            'calibration_images to the model\'s TOML file, or set calibration = "random" in a recipe of your own '
            "(then only latency and memory mean anything)."
        )
    path = model.locate(model.data.path)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _problem(f"{path}: the model's data cannot be read ({error.strerror}).") from error
    return f"data: up to {request.samples} calibration_images, evenly spread, of {path.name} (SHA-256 {digest})"


def calibration_samples(model: ModelSpec, graph: bytes, request: CalibrationRequest) -> list[Sample]:
    """Return the samples for a float graph that has a signature. Raises `CompressionError` when they do not fit."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=graph).get_signature_runner().get_input_details()
    names = list(details)
    shapes = {name: tuple(int(size) for size in details[name]["shape"]) for name in names}
    types = {name: details[name]["dtype"] for name in names}
    if request.kind == "random":
        return list(_random_samples(shapes, types, model, request.samples))
    if len(names) != 1:
        raise _problem(f"The model has {len(names)} inputs ({', '.join(names)}); calibration_images feed exactly one.")
    return [{names[0]: image} for image in _images(model, shapes[names[0]], request.samples)]


def _images(model: ModelSpec, shape: tuple[int, ...], count: int) -> Iterator[NDArray[Any]]:
    import numpy as np

    assert model.data is not None  # noqa: S101 - describe_calibration has refused this before
    path = model.locate(model.data.path)
    try:
        images = read_arrays(path, ["calibration_images"])["calibration_images"]
    except ArraysUnreadableError as error:
        raise _problem(f"{path} {error}; this recipe needs the array calibration_images of a .npz file.") from error
    if images.ndim == len(shape) - 1:
        images = images[..., None]
    if images.shape[1:] != shape[1:] or not len(images):
        raise _problem(
            f"{path}: calibration_images have the shape {images.shape}, but the model's input is {shape}; "
            "all sizes but the first must agree."
        )
    chosen = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    for index in chosen:
        image = images[index].astype(np.float32) * model.preprocessing.scale + model.preprocessing.offset
        yield image[None].astype(np.float32)


def _random_samples(
    shapes: dict[str, tuple[int, ...]], types: dict[str, Any], model: ModelSpec, count: int
) -> Iterator[Sample]:
    """Yield uniform noise over what pixels 0..255 become; integer inputs get zeros, which every index range allows."""
    import numpy as np

    random = np.random.default_rng(RANDOM_SEED)
    low, high = sorted(pixel * model.preprocessing.scale + model.preprocessing.offset for pixel in (0, 255))
    for _ in range(count):
        yield {
            name: random.uniform(low, high, shape).astype(np.float32)
            if np.issubdtype(types[name], np.floating)
            else np.zeros(shape, types[name])
            for name, shape in shapes.items()
        }


def _problem(message: str) -> CompressionError:
    return CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))
