"""Run a `.tflite` over samples with LiteRT's interpreter, in a process of its own: a broken file may crash it.

`python -m harness.tflite.interpreter MODEL INPUTS.npz OUTPUTS.npz THREADS`; arrays are in the tensors' types, sample
axis first, and named `0`, `1`, ... in the order of the model's signature.
"""

from __future__ import annotations

import sys
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.tflite.child import load_arrays, save_arrays
from harness.tflite.flatbuffer import read_graph
from harness.tflite.library_types import LiteRtInterpreter
from harness.tflite.tensors import file_order

Array = NDArray[np.generic]

_BATCH = 100


def interpret(model: str, inputs: list[Array], threads: int) -> list[Array]:
    """Return each output for all samples. Many samples go at once where the model lets its batch be resized."""
    from ai_edge_litert.interpreter import Interpreter

    facts = read_graph(Path(model).read_bytes(), name=model)
    given = [inputs[place] for place in file_order(facts.inputs)]
    interpreter = Interpreter(model_path=model, num_threads=threads)
    shapes = [detail["shape"] for detail in interpreter.get_input_details()]
    try:
        if any(len(shape) != array.ndim for shape, array in zip(shapes, given, strict=True)):
            raise ValueError("an input has no batch axis")
        chunks = [_run_batch(interpreter, _cut(given, start, _BATCH)) for start in range(0, len(given[0]), _BATCH)]
    except (RuntimeError, ValueError):  # such as a reshape to a constant batch
        interpreter = Interpreter(model_path=model, num_threads=threads)
        interpreter.allocate_tensors()
        chunks = [_run_single(interpreter, _cut(given, start, 1)) for start in range(len(given[0]))]
    listed = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    return [array for _, array in sorted(zip(file_order(facts.outputs), listed, strict=True), key=itemgetter(0))]


def _cut(inputs: list[Array], start: int, count: int) -> list[Array]:
    return [array[start : start + count] for array in inputs]


def _run_batch(interpreter: LiteRtInterpreter, samples: list[Array]) -> list[Array]:
    for detail, array in zip(interpreter.get_input_details(), samples, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    outputs = _run(interpreter, samples)
    if any(output.ndim == 0 or len(output) != len(samples[0]) for output in outputs):
        raise ValueError("the model does not keep the batch")
    return outputs


def _run_single(interpreter: LiteRtInterpreter, samples: list[Array]) -> list[Array]:
    details = interpreter.get_input_details()
    shaped = [array.reshape(detail["shape"]) for array, detail in zip(samples, details, strict=True)]
    outputs = _run(interpreter, shaped)
    return [output if output.ndim and len(output) == 1 else output[None] for output in outputs]


def _run(interpreter: LiteRtInterpreter, inputs: list[Array]) -> list[Array]:
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def main() -> None:
    """Read the inputs, write the outputs."""
    model, inputs_file, outputs_file, threads = sys.argv[1:]
    save_arrays(Path(outputs_file), interpret(model, load_arrays(inputs_file), int(threads)))


if __name__ == "__main__":
    main()
