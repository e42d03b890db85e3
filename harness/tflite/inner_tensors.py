"""Real tensors inside a graph, by name. `python -m harness.tflite.inner_tensors MODEL INPUTS.npz TENSORS.npz`.

A process of its own, since a broken file may crash it. Built-in kernels alone: a delegate keeps its tensors to itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.tflite.child import load_arrays
from harness.tflite.flatbuffer import read_graph
from harness.tflite.tensors import file_order

Floats = NDArray[np.float32]


def tensors_of(model: str, inputs: list[NDArray[Any]]) -> dict[str, Floats]:
    """Return what operators made of the inputs, by the tensor's name, dequantized, all samples along the first axis."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=model,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    given = [inputs[place] for place in file_order(read_graph(Path(model).read_bytes(), name=model).inputs)]
    written = computed(interpreter._get_ops_details(), [detail["index"] for detail in interpreter.get_input_details()])
    details = [detail for detail in interpreter.get_tensor_details() if detail["index"] in written]
    found: dict[str, list[Floats]] = {}
    for sample in range(len(given[0])):
        for detail, array in zip(interpreter.get_input_details(), given, strict=True):
            interpreter.set_tensor(detail["index"], array[sample].reshape(detail["shape"]))
        interpreter.invoke()
        for detail in details:
            found.setdefault(detail["name"], []).append(_dequantized(interpreter.get_tensor(detail["index"]), detail))
    return {name: np.stack(parts) for name, parts in found.items()}


def computed(operators: list[dict[str, Any]], inputs: list[int]) -> set[int]:
    """Return the tensors that depend on the inputs, which a dequantized weight does not; operators come in order."""
    alive = set(inputs)
    for operator in operators:
        if alive.intersection(operator["inputs"]):
            alive.update(operator["outputs"])
    return alive.difference(inputs)


def _dequantized(array: NDArray[Any], detail: dict[str, Any]) -> Floats:
    scale, zero_point = detail["quantization"]
    if array.dtype.kind == "f" or not scale:
        return array.astype(np.float32)
    return np.asarray((array.astype(np.float32) - zero_point) * scale, np.float32)


def main() -> None:
    """Read the inputs, write the tensors."""
    model, inputs_file, tensors_file = sys.argv[1:]
    found = tensors_of(model, load_arrays(inputs_file))
    names = np.array(list(found), dtype=np.str_)  # a name may hold what no file name may
    np.savez(tensors_file, names=names, **{str(index): array for index, array in enumerate(found.values())})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
