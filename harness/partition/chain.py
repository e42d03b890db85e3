"""Run a chain of stages and the whole model on the same inputs on this host, and compare bit for bit.

`python -m harness.partition.chain FOLDER INPUTS.npz RESULT.json`, in a process of its own: a broken file may crash it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.tflite.child import load_arrays

Array = NDArray[np.generic]
KERNELS = ("cpu-builtin", "cpu")
"""Built-in kernels, and XNNPACK: on either, stages and whole must agree with each other."""


def run_stage(content: bytes, inputs: Sequence[Array], kernels: str) -> list[Array]:
    """Return the outputs of one `.tflite` for one inference, in its order of outputs."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {"cpu-builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "cpu": OpResolverType.AUTO}[kernels]
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def run_chain(stages: Sequence[Mapping[str, Any]], values: dict[int, Array], kernels: str) -> dict[int, Array]:
    """Run stages one after another; `values` holds the model's inputs by tensor, and all results afterwards."""
    values = dict(values)
    for stage in stages:
        results = run_stage(stage["content"], [values[tensor] for tensor in stage["inputs"]], kernels)
        values.update(zip(stage["outputs"], results, strict=True))
    return values


def difference(whole: Sequence[Array], chained: Sequence[Array]) -> str:
    """Return how the chain's outputs differ from the whole model's, as a sentence; empty if every bit agrees."""
    for place, (one, other) in enumerate(zip(whole, chained, strict=True)):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"output {place} is {other.dtype}{other.shape} instead of {one.dtype}{one.shape}"
        if one.tobytes() != other.tobytes():
            largest = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            return f"output {place} differs by up to {largest:.3g}"
    return ""


def main() -> None:
    """Compare on all kernels; write `{kernels: difference}`."""
    folder, inputs_file, result_file = map(Path, sys.argv[1:])
    plan = json.loads((folder / "chain.json").read_text())
    stages = [{**stage, "content": (folder / stage["file"]).read_bytes()} for stage in plan["stages"]]
    inputs = load_arrays(inputs_file)
    values = dict(zip(plan["inputs"], inputs, strict=True))
    found = {}
    for kernels in KERNELS:
        whole = run_stage((folder / plan["whole"]).read_bytes(), inputs, kernels)
        results = run_chain(stages, values, kernels)
        found[kernels] = difference(whole, [results[tensor] for tensor in plan["outputs"]])
    result_file.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
