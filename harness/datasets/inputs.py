"""What goes through the models: a model's labelled images, a file of inputs, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.arrays import ArraysUnreadableError, read_arrays
from harness.datasets.labelled import (
    Dataset,
    Samples,
    choose_samples,
    fit_dataset,
    load_dataset,
    random_samples,
    scored_output,
)
from harness.errors import UsageError
from harness.spec.model import ModelSpec
from harness.tflite.tensors import sample_shape
from harness.tflite.variant import TensorType, VariantCard

FIRST_DATA = "data"
"""What the model's own data set is called in tables."""
RANDOM_DATA = "random"
RANDOM_COUNT = 64
LABELLED_COUNT = 2000


def gather(
    model: ModelSpec, card: VariantCard, *, dataset: Dataset | None, file: Path | None, count: int | None
) -> dict[str, Samples]:
    """Return sets of samples by name, at most `count` each: of `file`, else the model's own, else noise.

    `card` is the float model's, and `dataset` fits it. Raises `UsageError` for what does not fit.
    """
    if file is not None:
        return {file.name: replace(read_inputs(file, card.inputs, count), scored=scored_output(model, card))}
    if dataset is None:
        noise = random_samples(card.inputs, count=count or RANDOM_COUNT)
        return {RANDOM_DATA: replace(noise, scored=scored_output(model, card))}
    sets = {FIRST_DATA: dataset}
    for more in model.evaluation.data:
        if more.name in sets:
            raise UsageError(f"{model.name}: two data sets are called {more.name!r}.", "Give each its own name.")
        found = load_dataset(model.model_copy(update={"data": more}))
        if found is None:
            raise UsageError(
                f"{model.name}: the data set {more.name!r} has no labels.", "Give test_labels, or drop it."
            )
        sets[more.name] = fit_dataset(found, model, card)
    return {name: choose_samples(one, count or LABELLED_COUNT) for name, one in sets.items()}


def read_inputs(file: Path, tensors: Sequence[TensorType], count: int | None) -> Samples:
    """Read real values: a `.npy` for one input, a `.npz` for several, by the inputs' names or else in its own order.

    Sample axis first. Raises `UsageError`.
    """
    arrays = _read(file)
    names = [tensor.title for tensor in tensors]
    by_tensor = [arrays[tensor.name] for tensor in tensors if tensor.name in arrays]
    by_name = [arrays[name] for name in names] if set(names) <= set(arrays) else by_tensor
    chosen = by_name if len(by_name) == len(tensors) else list(arrays.values())
    if len(chosen) != len(tensors):
        raise UsageError(
            f"{file} holds {len(chosen)} arrays, but the model takes {len(tensors)}: {', '.join(names)}.",
            "Write one array an input into a .npz, under the inputs' names.",
        )
    for array, tensor in zip(chosen, tensors, strict=True):
        fixed = tensor.shape[1:] if len(tensor.shape) == array.ndim else sample_shape(tensor)
        if array.shape[1:] != tuple(max(1, size) for size in fixed) or len(array) != len(chosen[0]) or not len(array):
            raise UsageError(
                f"{file}: an array has the shape {array.shape}, but {tensor.name} takes {sample_shape(tensor)} a "
                "sample.",
                "The first axis counts the samples, in all arrays alike.",
            )
    return Samples(tuple(np.asarray(array[:count], np.float32) for array in chosen), None)


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_arrays(file)
    except ArraysUnreadableError as error:
        raise UsageError(f"{file} {error}.", "Give a .npy or .npz file.") from error
