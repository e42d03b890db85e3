"""Measure which values the activations of a float graph take over samples, whatever the order of the samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.graph.activations import activations, tensor_name
from harness.compression.graph.finite_masks import MASK_DISTANCE, MASKED
from harness.files import write_atomically
from harness.tflite.flatbuffer import operator_name
from harness.tflite.library_types import FlatbufferObject

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets

Ranges = dict[str, dict[str, NDArray[Any]]]
"""Smallest and largest value (`min`, `max`) of each tensor, by its name."""

CLIPPED_SHARES = {"extremes": 0.0, "percentile": 1e-5}
"""By rule, the share of a tensor's values over all samples that may lie outside each end of its range."""

SMALLEST_RANGE = 1e-5
"""Activations of untrained networks fade to nothing; a scale fitted to that overflows the runtime's limit of ReLU6
(`no_integer_overflow_from_quantization was not true` in TensorFlow Lite 2.14.1)."""

_DECIDING = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "ARG_MAX", "ARG_MIN", "TOPK_V2"})
"""Operators whose input's largest values are the answer: logits."""

_PASSING = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND"),
        *("SPLIT", "SPLIT_V", "CONCATENATION", "PACK", "UNPACK", "PAD", "PADV2", "MIRROR_PAD", "TILE", "REVERSE_V2"),
    }
)
"""Operators that write the values that they read: where their output must not be cut off, neither must their input."""

_LARGEST = 1e38


def measure_ranges(
    graph: bytes, samples: SampleSets, rule: str, progress: Callable[[int, int, str], None] | None = None
) -> Ranges:
    """Return the range of every activation over all samples, by one of `CLIPPED_SHARES`.

    Inputs, outputs and logits are never cut off, and neither is a tensor of so few values that the share is less than
    one of them. The order of the samples does not matter.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.Model.GetRootAs(graph, 0)
    interpreter = Interpreter(model_content=graph, num_threads=1, experimental_preserve_all_tensors=True)
    whole = _never_clipped(model)
    tails: dict[str, _Tails] = {}
    for key, sets in samples.items():
        runner = interpreter.get_signature_runner(key)
        for place, sample in enumerate(sets):
            if progress is not None:
                progress(len(sets), place, rule)
            interpreter.reset_all_variables()
            runner(**sample)
            for tensor, values in activations(model, interpreter):
                if tensor.Type() != schema.TensorType.FLOAT32:
                    continue
                name = tensor_name(tensor)
                if name not in tails:
                    share = 0.0 if name in whole else CLIPPED_SHARES[rule]
                    tails[name] = _Tails(1 + int(share * values.size * len(sets)))
                tails[name].add(values)
    return {name: found.range() for name, found in tails.items() if found.low.size}


class _Tails:
    """The `keep` smallest and largest of all values that were added."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.low = self.high = np.empty(0, np.float32)
        self.is_masked = False

    def add(self, values: NDArray[np.float32]) -> None:
        flat = values[(values > MASKED) & (values < _LARGEST)]
        self.is_masked |= bool((values <= MASKED).any())
        self.high = -self._smallest(-self.high, -flat)
        self.low = self._smallest(self.low, flat)

    def _smallest(self, kept: NDArray[np.float32], more: NDArray[np.float32]) -> NDArray[np.float32]:
        if kept.size == self.keep:
            more = more[more < kept.max()]
        merged = np.concatenate([kept, more])
        return np.partition(merged, self.keep - 1)[: self.keep] if merged.size > self.keep else merged

    def range(self) -> dict[str, NDArray[Any]]:
        low, high = self.low.max(keepdims=True), self.high.min(keepdims=True)
        if self.is_masked:
            low = low - np.float32(MASK_DISTANCE)
        return {"min": low, "max": np.maximum(high, low + np.float32(SMALLEST_RANGE))}


def _never_clipped(model: FlatbufferObject) -> set[str]:
    """Return the names of inputs, outputs, logits and of what is passed on to outputs and logits as it is."""
    whole: set[str] = set()
    for graph in (model.Subgraphs(place) for place in range(model.SubgraphsLength())):
        names = [tensor_name(graph.Tensors(index)) for index in range(graph.TensorsLength())]
        whole.update(names[graph.Inputs(place)] for place in range(graph.InputsLength()))
        whole.update(names[graph.Outputs(place)] for place in range(graph.OutputsLength()))
        for node in (graph.Operators(index) for index in reversed(range(graph.OperatorsLength()))):
            kind = operator_name(model, node.OpcodeIndex())
            written = {names[node.Outputs(place)] for place in range(node.OutputsLength())}
            if kind in _DECIDING or (kind in _PASSING and written & whole):
                read = (node.Inputs(place) for place in range(node.InputsLength()))
                whole.update(names[index] for index in read if index >= 0)
    return whole


def ranges_file(folder: Path, graph: bytes, samples: SampleSets, rule: str) -> Path:
    """Return the file of a graph's ranges over samples: its name is a hash of all that decides them."""
    digest = hashlib.sha256(graph)
    digest.update(f"{rule} {MASKED} {MASK_DISTANCE}".encode())
    for key, sets in samples.items():
        for sample in sets:
            for name, values in sample.items():
                digest.update(f"{key} {name} {values.shape} {values.dtype}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
    return folder / f"{digest.hexdigest()}.json"


def read_ranges(file: Path) -> Ranges | None:
    """Return the ranges in a file, None if there is none."""
    if not file.is_file():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: {end: np.array(values, np.float32) for end, values in found.items()} for name, found in stored.items()
    }


def write_ranges(file: Path, ranges: Ranges) -> None:
    """Write ranges, all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {name: {end: values.tolist() for end, values in found.items()} for name, found in ranges.items()}
    write_atomically(file, json.dumps(content).encode())
