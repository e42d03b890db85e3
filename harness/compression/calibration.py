"""Which samples a quantizer sees. Real data is the rule; noise has to be asked for and is named in the card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.datasets.arrays import CALIBRATION, ArraysUnreadableError, read_arrays
from harness.datasets.images import find_images
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.model import ModelSpec, Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sample = dict[str, NDArray[Any]]
    """One set of inputs, by their names in the graph's signature; shapes include the batch of one."""

    SampleSets = dict[str, list[Sample]]
    """Samples for each signature of a graph, by its name."""

RANDOM_SEED = 0
_CLASSES = "calibration_labels"
GIVE_DATA = "Give --data with a folder of images or a .npz file, or [data] in the model's TOML file."


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
    arrays, classes = _read(model, shapes, request.samples)
    return [
        {name: _converted(array[index], types[name]).reshape(shapes[name]) for name, array in arrays.items()}
        for index in _chosen(list(arrays.values()), classes, request.samples)
    ]


def _read(
    model: ModelSpec, shapes: dict[str, tuple[int, ...]], most: int
) -> tuple[dict[str, NDArray[Any]], list[bytes]]:
    """Return an array per input, as the model takes it, with one row per sample, and each sample's class.

    Of a folder of images, `most` are read.
    """
    import numpy as np

    assert model.data is not None  # noqa: S101 - describe_calibration has refused this before
    path = model.locate(model.data.path)
    stored = {name: CALIBRATION if len(shapes) == 1 else f"calibration_{name}" for name in shapes}
    try:
        if path.is_dir() and len(shapes) == 1:
            files = find_images(path).for_calibration.spread(most)
            found = {stored[name]: files.pixels(shape[1:]) for name, shape in shapes.items()}
            found[_CLASSES] = np.array(files.labels or [0] * len(files))
        else:
            found = read_arrays(path, [*stored.values()])
    except ArraysUnreadableError as error:
        raise _problem(
            f"{path} {error}; this recipe needs the arrays {' and '.join(stored.values())} of a .npz file."
        ) from error
    count = len(next(iter(found.values())))
    arrays = {}
    for name, shape in shapes.items():
        array = found[stored[name]]
        if array.ndim == len(shape) - 1:
            array = array[..., None]
        if array.shape != (count, *shape[1:]) or not count:
            raise _problem(
                f"{path}: {stored[name]} have the shape {array.shape}, but the model's input is {shape}; "
                "all sizes but the first must agree."
            )
        # Arrays of several inputs come as the model takes them: one scale cannot fit an image and an index.
        is_scaled = len(shapes) == 1 and model.preprocessing != Preprocessing()
        arrays[name] = _scaled(array, model.preprocessing) if is_scaled else array
    try:
        labels = found[_CLASSES] if _CLASSES in found else read_arrays(path, [_CLASSES])[_CLASSES]
    except ArraysUnreadableError:
        labels = np.zeros(count, np.int8)
    if len(labels) != count:
        raise _problem(f"{path}: {count} calibration_images, but {len(labels)} calibration_labels.")
    return arrays, [label.tobytes() for label in labels]


def _chosen(arrays: Sequence[NDArray[Any]], classes: Sequence[bytes], count: int) -> list[int]:
    """Return the places of `count` samples, as many of each class as there are, whatever their order in the file."""
    import numpy as np

    digests = [
        hashlib.sha256(b"".join(np.ascontiguousarray(array[index]).tobytes() for array in arrays)).digest()
        for index in range(len(arrays[0]))
    ]
    by_content = sorted(range(len(digests)), key=lambda index: (digests[index], classes[index]))
    seen: Counter[bytes] = Counter()
    rounds = {}
    for index in by_content:
        rounds[index] = seen[classes[index]]
        seen[classes[index]] += 1
    return sorted(by_content, key=rounds.__getitem__)[:count]


def _scaled(array: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    import numpy as np

    return np.asarray(array.astype(np.float32) * preprocessing.scale + preprocessing.offset, np.float32)


def _converted(values: NDArray[Any], kind: type[Any]) -> NDArray[Any]:
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
