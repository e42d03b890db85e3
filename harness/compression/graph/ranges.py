"""Measure which values the activations of a float graph take over samples, whatever the order of the samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.compression.graph.activations import activations, tensor_name
from harness.compression.graph.finite_masks import MASK_DISTANCE, MASKED, range_between
from harness.files import write_atomically
from harness.tflite.flatbuffer import operator_name
from harness.tflite.library_types import FlatbufferObject

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets

Ranges = dict[str, dict[str, NDArray[Any]]]
"""Smallest and largest value (`min`, `max`) of each tensor, by its name."""

ERROR_POWERS = {"error-2": 2.0, "error-1.5": 1.5}
"""By rule, the power of the errors whose sum is smallest."""
RULES = ("extremes", "mean", *ERROR_POWERS, "midway")
"""How a tensor's range follows from its values over all samples, see `_Seen`."""

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
_FEW = 64
"""A tensor of fewer values per sample is never cut off: each of them may decide."""
_BIN_BITS = 14
"""Leading bits of a float32 that name its bin: the sign, the exponent and 5 bits of the fraction."""
_SHARES = np.geomspace(1, 1 / 256, 129)
"""Of an end of the range of all values, the ends that are tried."""
_STEPS = 255


def measure_ranges(
    graph: bytes, samples: SampleSets, progress: Callable[[str, int, int, str], None] | None = None
) -> dict[str, Ranges]:
    """Return the range of every activation over all samples, by each of `RULES`.

    Inputs, outputs, logits and tensors of few values are never cut off. The order of the samples does not matter.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.Model.GetRootAs(graph, 0)
    interpreter = Interpreter(model_content=graph, num_threads=1, experimental_preserve_all_tensors=True)
    whole = _never_clipped(model)
    tensors: dict[str, _Seen] = {}
    for key, sets in samples.items():
        runner = interpreter.get_signature_runner(key)
        for place, sample in enumerate(sets):
            if progress is not None:
                progress("measuring ranges", len(sets), place, "")
            interpreter.reset_all_variables()
            runner(**sample)
            for tensor, values in activations(model, interpreter):
                if tensor.Type() != schema.TensorType.FLOAT32:
                    continue
                name = tensor_name(tensor)
                if name not in tensors:
                    tensors[name] = _Seen(is_whole=name in whole or values.size < _FEW)
                tensors[name].add(values)
    found = {name: seen.ranges() for name, seen in tensors.items() if seen.lows}
    return {rule: {name: ranges[rule] for name, ranges in found.items()} for rule in RULES}


class _Seen:
    """What values a tensor had over all samples, but for infinities and what stands for them."""

    def __init__(self, is_whole: bool) -> None:
        self.is_whole = is_whole
        self.lows: list[float] = []
        self.highs: list[float] = []
        self._counts = np.zeros(0 if is_whole else 1 << _BIN_BITS, np.int64)
        self._is_masked = False

    def add(self, values: NDArray[np.float32]) -> None:
        """Add the values of one sample."""
        inside = (values > MASKED) & (values < _LARGEST)
        self._is_masked |= bool((values <= MASKED).any())
        kept = values[inside]
        if not kept.size:
            return
        self.lows.append(float(kept.min()))
        self.highs.append(float(kept.max()))
        if not self.is_whole:
            bins = kept.view(np.uint32) >> (32 - _BIN_BITS)
            self._counts += np.bincount(bins, minlength=self._counts.size)

    def ranges(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the smallest and largest value that each of `RULES` keeps.

        `extremes` keeps all; `mean` ends at the means of the samples' extremes, so that few samples cannot stretch it.
        The others have the least sum of errors to a power, of cutting off and of rounding to 256 steps: the squared
        error (Sung et al. 2015, arXiv:1511.06488), or one that minds what is cut off less. `midway` lies halfway from
        there to `mean`: errors overlook samples that are rare, means overlook values that are.
        """
        low, high = min(self.lows), max(self.highs)
        ends = dict.fromkeys(RULES, (low, high))
        if not self.is_whole:
            # `fsum` is exact in any order.
            mean = (math.fsum(self.lows) / len(self.lows), math.fsum(self.highs) / len(self.highs))
            ends |= {rule: self._least_error(low, high, power) for rule, power in ERROR_POWERS.items()}
            error = ends["error-2"]
            ends |= {"mean": mean, "midway": ((error[0] + mean[0]) / 2, (error[1] + mean[1]) / 2)}
        distance = MASK_DISTANCE if self._is_masked else 0.0
        return {
            rule: range_between(low - distance, max(high, low - distance + SMALLEST_RANGE))
            for rule, (low, high) in ends.items()
        }

    def _least_error(self, low: float, high: float, power: float) -> tuple[float, float]:
        (bins,) = self._counts.nonzero()
        middles = ((bins.astype(np.uint32) << (32 - _BIN_BITS)) + (1 << (31 - _BIN_BITS))).view(np.float32)
        order = np.argsort(middles)
        values, counts = middles[order].astype(np.float64), self._counts[bins[order]].astype(np.float64)
        lows, highs = (np.unique(np.float64(end) * _SHARES) for end in (min(low, 0.0), max(high, 0.0)))
        below = (np.maximum(lows[:, None] - values, 0) ** power) @ counts
        above = (np.maximum(values - highs[:, None], 0) ** power) @ counts
        rounded = np.append(0, np.cumsum(np.where(np.abs(values) < SMALLEST_RANGE, 0, counts)))  # zero is a step
        inside = rounded[np.searchsorted(values, highs)] - rounded[np.searchsorted(values, lows)][:, None]
        half_steps = (highs - lows[:, None]) / _STEPS / 2
        errors = below[:, None] + above + half_steps**power / (power + 1) * inside
        lowest, highest = np.unravel_index(errors.argmin(), errors.shape)
        return float(lows[lowest]), float(highs[highest])


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


def ranges_file(folder: Path, graph: bytes, samples: SampleSets) -> Path:
    """Return the file of a graph's ranges over samples: its name is a hash of all that decides them."""
    digest = hashlib.sha256(graph)
    digest.update(f"{ERROR_POWERS} {_SHARES.tolist()} {_STEPS} {_FEW} {_BIN_BITS} {MASKED} {MASK_DISTANCE}".encode())
    for key, sets in samples.items():
        for sample in sets:
            for name, values in sample.items():
                digest.update(f"{key} {name} {values.shape} {values.dtype}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
    return folder / f"{digest.hexdigest()}.json"


def read_ranges(file: Path) -> dict[str, Ranges] | None:
    """Return the ranges in a file by rule, None if there is none."""
    if not file.is_file():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    return {rule: {name: range_between(*ends) for name, ends in found.items()} for rule, found in stored.items()}


def write_ranges(file: Path, ranges: dict[str, Ranges]) -> None:
    """Write ranges by rule, all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        rule: {name: [float(ends["min"][0]), float(ends["max"][0])] for name, ends in found.items()}
        for rule, found in ranges.items()
    }
    write_atomically(file, json.dumps(content).encode())
