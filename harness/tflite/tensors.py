"""Numbers as a tensor's raw bytes, and back. A sample is what one inference takes or gives, without the batch axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import Failure, FailureClass, FailureError
from harness.tflite.variant import TensorType

FloatArray = NDArray[np.float32]


def has_batch_axis(tensor: TensorType) -> bool:
    """Return True if the first axis is a batch: one or open. A first axis of another size is part of the sample."""
    return tensor.shape[:1] in ((1,), (-1,))


def sample_shape(tensor: TensorType) -> tuple[int, ...]:
    """Return the shape of one sample; open axes count as one."""
    shape = tensor.shape[1:] if has_batch_axis(tensor) else tensor.shape
    return tuple(max(1, size) for size in shape)


def sample_bytes(tensor: TensorType) -> int:
    """Return the size of one sample."""
    return int(np.prod(sample_shape(tensor), dtype=np.int64)) * np.dtype(tensor.type).itemsize


def file_order(tensors: Sequence[TensorType]) -> list[int]:
    """Return the positions of tensors that come by signature in the order in which the file lists them."""
    places = [place if tensor.file_place is None else tensor.file_place for place, tensor in enumerate(tensors)]
    return sorted(range(len(places)), key=places.__getitem__)


def encode(values: FloatArray, tensor: TensorType) -> NDArray[np.generic]:
    """Return values in a tensor's own type: q = round(x / scale) + zero point, clipped to the type's range."""
    if np.dtype(tensor.type).kind not in "iu":
        return values.astype(tensor.type)
    exact = values.astype(np.float64) / (tensor.scale or 1.0)
    limits = np.iinfo(tensor.type)
    clipped = np.clip(np.rint(exact) + (tensor.zero_point or 0), limits.min, limits.max)
    return np.asarray(clipped, dtype=tensor.type)


def decode(array: NDArray[np.generic], tensor: TensorType) -> FloatArray:
    """Return the real values of a tensor: x = (q - zero point) * scale."""
    values = array.astype(np.float32)
    return (values - (tensor.zero_point or 0)) * np.float32(tensor.scale) if tensor.scale else values


def output_bytes(tensors: Sequence[TensorType], shapes: Sequence[tuple[int, ...]], samples: int) -> list[int]:
    """Return the size of each output in the tool's file."""
    counts = [samples * int(np.prod(shape, dtype=np.int64)) for shape in shapes]
    return [count * np.dtype(tensor.type).itemsize for count, tensor in zip(counts, tensors, strict=True)]


def split_outputs(
    data: bytes, tensors: Sequence[TensorType], shapes: Sequence[tuple[int, ...]], samples: int
) -> tuple[FloatArray, ...]:
    """Cut the tool's output file, in which all outputs stand in the file's order, into (samples, ...) arrays.

    Tensors and arrays come by signature. `shapes` are the samples' shapes as the host's run gave them: a file may leave
    them open. Raises `FailureError` (`wrong_output`, or `storage_full` for an empty file) for another size than that
    many samples give.
    """
    sizes = output_bytes(tensors, shapes, samples)
    if len(data) != sum(sizes):
        raise FailureError(_wrong_size(len(data), sum(sizes), samples, tensors))
    arrays: dict[int, FloatArray] = {}
    start = 0
    for place in file_order(tensors):
        part, start = data[start : start + sizes[place]], start + sizes[place]
        raw = np.frombuffer(part, tensors[place].type).reshape(samples, *shapes[place])
        arrays[place] = decode(raw, tensors[place])
    return tuple(arrays[place] for place in range(len(tensors)))


def _wrong_size(size: int, expected: int, samples: int, tensors: Sequence[TensorType]) -> Failure:
    evidence = f"outputs {[(tensor.name, tensor.shape, tensor.type) for tensor in tensors]}"
    if not size:  # the tool ends with exit code 0 even then
        message = "The tool wrote an empty file of outputs, as it does where the storage is full."
        return Failure(FailureClass.STORAGE_FULL, message, evidence)
    message = f"The tool wrote {size} bytes of outputs, not the {expected} of {samples} samples."
    return Failure(FailureClass.WRONG_OUTPUT, message, evidence)
