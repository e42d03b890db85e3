"""Run a `.tflite` over samples with LiteRT's interpreter, in a process of its own: a broken file may crash it.

`python -m harness.accuracy.interpret MODEL INPUTS.npz OUTPUTS.npz THREADS`; arrays are in the tensors' own types and
named `0`, `1`, ... in the order of the model's inputs and outputs.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 100


def interpret(model: str, inputs: list[NDArray[np.generic]], threads: int) -> list[NDArray[np.generic]]:
    """Return each output for all samples. Many samples go at once where the model lets its batch be resized."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    batch = _BATCH
    try:
        _resize(interpreter, [array[:batch] for array in inputs])
        chunks = [_run(interpreter, inputs, start, batch) for start in range(0, len(inputs[0]), batch)]
    except (RuntimeError, ValueError):  # such as a reshape to a constant batch
        interpreter = Interpreter(model_path=model, num_threads=threads)
        interpreter.allocate_tensors()
        chunks = [_run(interpreter, inputs, start, 1) for start in range(len(inputs[0]))]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _resize(interpreter: Any, inputs: list[NDArray[np.generic]]) -> None:  # noqa: ANN401
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()


def _run(interpreter: Any, inputs: list[NDArray[np.generic]], start: int, count: int) -> list[NDArray[np.generic]]:  # noqa: ANN401
    samples = [array[start : start + count] for array in inputs]
    details = interpreter.get_input_details()
    if tuple(details[0]["shape"]) != samples[0].shape:
        _resize(interpreter, samples)
    for detail, array in zip(details, samples, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]
    if len(outputs[0]) != len(samples[0]):
        raise ValueError("the model does not keep the batch")
    return outputs


def main() -> None:
    """Read the inputs, write the outputs."""
    model, inputs_file, outputs_file, threads = sys.argv[1:]
    with np.load(inputs_file) as archive:
        inputs = [archive[str(index)] for index in range(len(archive.files))]
    outputs = interpret(model, inputs, int(threads))
    np.savez(outputs_file, **{str(index): array for index, array in enumerate(outputs)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
