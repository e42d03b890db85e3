"""Which samples a quantizer sees. Real data is the rule; noise has to be asked for and is named in the card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.datasets.arrays import ArraysUnreadableError
from harness.datasets.calibration_arrays import calibration_names, read_calibration
from harness.datasets.images import find_images
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec
from harness.tflite.flatbuffer import signature_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sample = dict[str, NDArray[Any]]
    """One set of inputs, by their names in the graph's signature; shapes include the batch of one."""

    SampleSets = dict[str, list[Sample]]
    """Samples for each signature of a graph, by its name."""

RANDOM_SEED = 0
GIVE_DATA = "Give --data with a folder of images or a .npz file, or [data] in the model's TOML file."


@dataclass(frozen=True)
class CalibrationRequest:
    """What a recipe asks for."""

    kind: Literal["data", "random"]
    samples: int
    is_optional: bool = False
    """Without data the recipe does what it can."""


def describe_calibration(model: ModelSpec, request: CalibrationRequest) -> str:
    """Say in one line what is used, with the SHA-256 of the data file, without reading images.

    Raises `CompressionError` when real data is asked for and the model has none.
    """
    if request.kind == "random":
        return f"random: {request.samples} samples of noise, seed {RANDOM_SEED}; accuracy means nothing"
    if model.data is None:
        raise _problem(
            f"Model {model.name!r} has no data to calibrate on, which this recipe needs. {GIVE_DATA} Or set "
            'calibration = "random" in a recipe of your own (then only latency and memory mean anything).'
        )
    path = model.locate(model.data.path)
    try:
        if path.is_dir():
            files = find_images(path).for_calibration
            return f"data: up to {request.samples} of {len(files)} images of {path.name} (SHA-256 {files.sha256})"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except ArraysUnreadableError as error:
        raise _problem(f"{path} {error}.") from error
    except OSError as error:
        raise _problem(f"{path}: the model's data cannot be read ({error.strerror}).") from error
    return f"data: up to {request.samples} calibration_images, chosen by content, of {path.name} (SHA-256 {digest})"


def calibration_samples(
    model: ModelSpec, graph: bytes, request: CalibrationRequest, signature: str | None = None
) -> list[Sample]:
    """Return the samples for one signature of a float graph, by default its only one.

    Which they are, and in which order, does not depend on the order in the data. Raises `CompressionError` when the
    data does not fit.
    """
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=graph).get_signature_runner(signature).get_input_details()
    shapes = {name: tuple(int(size) for size in detail["shape"]) for name, detail in details.items()}
    types = {name: detail["dtype"] for name, detail in details.items()}
    if request.kind == "random":
        return list(_random_samples(shapes, types, model, request.samples))
    assert model.data is not None  # noqa: S101 - describe_calibration has refused this before
    try:
        arrays = read_calibration(model, shapes, request.samples)
    except ArraysUnreadableError as error:
        names = " and ".join(calibration_names(shapes).values())
        raise _problem(
            f"{model.locate(model.data.path)} {error}; this recipe needs the arrays {names} of a .npz file."
        ) from error
    return [
        {name: in_type(array[index], types[name]).reshape(shapes[name]) for name, array in arrays.items()}
        for index in range(len(next(iter(arrays.values()))))
    ]


def signature_samples(model: ModelSpec, graph: bytes, request: CalibrationRequest) -> SampleSets:
    """Return the samples for each signature of a float graph, see `calibration_samples`.

    There are none if they are optional and the model's data has none.
    """
    if request.is_optional and model.data is None:
        return {}
    try:
        return {key: calibration_samples(model, graph, request, key) for key in signature_keys(graph)}
    except CompressionError:
        if not request.is_optional:
            raise
        return {}  # such as data to measure accuracy with, and nothing to calibrate on


def in_type(values: NDArray[Any], kind: type[Any]) -> NDArray[Any]:
    """Return values in an input's own type; integers are rounded and stay within the type's limits."""
    import numpy as np

    if not np.issubdtype(kind, np.integer) or np.issubdtype(values.dtype, np.integer):
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max), kind)


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
