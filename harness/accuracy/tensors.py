"""Numbers as a tensor's raw bytes, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.dataset import FloatArray
from harness.compression.variant import TensorType
from harness.errors import Failure, FailureClass, FailureError


def encode(values: FloatArray, tensor: TensorType) -> NDArray[np.generic]:
    """Return values in a tensor's own type: q = round(x / scale) + zero point, clipped to the type's range."""
    if tensor.scale:
        limits = np.iinfo(tensor.type)
        quantized = np.rint(values / np.float32(tensor.scale)) + (tensor.zero_point or 0)
        values = np.clip(quantized, limits.min, limits.max)
    return np.asarray(values, dtype=tensor.type)


def decode(array: NDArray[np.generic], tensor: TensorType) -> FloatArray:
    """Return the real values of a tensor: x = (q - zero point) * scale."""
    values = array.astype(np.float32)
    return (values - (tensor.zero_point or 0)) * np.float32(tensor.scale) if tensor.scale else values


def split_outputs(data: bytes, tensors: Sequence[TensorType], samples: int) -> tuple[FloatArray, ...]:
    """Cut the tool's output file, in which all outputs stand one after the other, into (samples, ...) arrays.

    Raises `FailureError` (`wrong_output`) when the file has another size than that many samples give.
    """
    sizes = [samples * elements_per_sample(tensor) * np.dtype(tensor.type).itemsize for tensor in tensors]
    if len(data) != sum(sizes):
        raise FailureError(
            Failure(
                FailureClass.WRONG_OUTPUT,
                f"The tool wrote {len(data)} bytes of outputs, not the {sum(sizes)} of {samples} samples.",
                f"outputs {[(tensor.name, tensor.shape, tensor.type) for tensor in tensors]}",
            )
        )
    arrays, start = [], 0
    for tensor, size in zip(tensors, sizes, strict=True):
        raw = np.frombuffer(data[start : start + size], tensor.type).reshape(samples, *tensor.shape[1:])
        arrays.append(decode(raw, tensor))
        start += size
    return tuple(arrays)


def elements_per_sample(tensor: TensorType) -> int:
    """Return how many numbers one sample has in a tensor whose first axis is the batch."""
    return int(np.prod([max(1, size) for size in tensor.shape[1:]], dtype=np.int64))
