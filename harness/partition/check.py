"""Prove that stages compute what the whole does, bit for bit on the same kernels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import CompressionError, Failure, FailureClass, FailureError, UsageError
from harness.partition.graph import Graph, Tensor
from harness.partition.split import Stage
from harness.tflite.child import last_words, run_child, save_arrays

_TIMEOUT_S = 900.0
_WHOLE_NUMBERS = 256


def random_inputs(graph: Graph, *, seed: int = 0) -> list[NDArray[np.generic]]:
    """Return one input for each of the graph's inputs: floats in -1..1, whole numbers that fit the type.

    Raises `UsageError` for an input that takes text.
    """
    generator = np.random.default_rng(seed)
    return [_random(generator, graph.tensors[index]) for index in graph.inputs]


def _random(generator: np.random.Generator, tensor: Tensor) -> NDArray[np.generic]:
    if tensor.type == "str":
        raise UsageError(
            f"The input {tensor.name!r} takes text, and the proof sends random numbers.",
            "Partition a model whose inputs are numbers.",
        )
    kind = np.dtype(tensor.type)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        low, high = max(limits.min, -_WHOLE_NUMBERS), min(limits.max, _WHOLE_NUMBERS)
        return generator.integers(low, high, tensor.shape, endpoint=True).astype(kind)
    if kind == np.bool_:
        return generator.random(tensor.shape) < 0.5  # noqa: PLR2004 - a fair coin
    return generator.uniform(-1, 1, tensor.shape).astype(kind)


def check_chain(
    content: bytes, graph: Graph, stages: Sequence[Stage], inputs: Sequence[NDArray[np.generic]]
) -> dict[str, str]:
    """Run the whole and the chain on this host; return by kernels how they differ, empty if every bit agrees.

    Raises `CompressionError` when the model does not run here at all.
    """
    with tempfile.TemporaryDirectory(prefix="harness-partition-") as name:
        folder = Path(name)
        (folder / "whole.tflite").write_bytes(content)
        listed = []
        for place, stage in enumerate(stages):
            (folder / f"{place}.tflite").write_bytes(stage.content)
            listed.append({"file": f"{place}.tflite", "inputs": stage.inputs, "outputs": stage.outputs})
        chain = {"whole": "whole.tflite", "stages": listed, "inputs": graph.inputs, "outputs": graph.outputs}
        (folder / "chain.json").write_text(json.dumps(chain))
        save_arrays(folder / "inputs.npz", inputs)
        result = folder / "result.json"
        try:
            done = run_child(
                "harness.partition.chain", [name, folder / "inputs.npz", result], name=name, timeout_s=_TIMEOUT_S
            )
        except FailureError as error:
            raise _does_not_run(f"it took longer than {_TIMEOUT_S:.0f} s") from error
        if not result.exists():
            raise _does_not_run(last_words(done))
        found: dict[str, str] = json.loads(result.read_text())
        return found


def _does_not_run(why: str) -> CompressionError:
    return CompressionError(
        Failure(
            FailureClass.INVALID_MODEL, f"The stages could not be checked, since the model does not run here: {why}."
        )
    )
