"""What the host computes from a variant: the reference for its outputs on every delegate. Cached by content."""

from __future__ import annotations

import tempfile
import threading
from importlib.metadata import version
from pathlib import Path

from harness.benchmark.failures import find_failure
from harness.benchmark.log_lines import split_lines
from harness.datasets.labelled import Samples
from harness.errors import Failure, FailureClass, FailureError
from harness.tflite.child import load_arrays, run_child, save_arrays
from harness.tflite.tensors import FloatArray, decode, encode
from harness.tflite.variant import Variant

_TIMEOUT_S = 1800


class HostOutputs:
    """Host outputs by variant and samples, kept in a folder. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def outputs(self, variant: Variant, samples: Samples, *, threads: int = 1) -> tuple[FloatArray, ...]:
        """Return each output as (samples, ...) float32. Raises `FailureError` when the host cannot run the variant."""
        file = self._folder / f"{variant.sha256[:32]}-{samples.sha256[:32]}-litert-{version('ai-edge-litert')}.npz"
        with self._lock:
            if not file.exists():
                self._compute(variant, samples, file, threads)
        found = zip(load_arrays(file), variant.card.outputs, strict=True)
        return tuple(decode(array, tensor) for array, tensor in found)

    def _compute(self, variant: Variant, samples: Samples, file: Path, threads: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        inputs = [encode(array, tensor) for array, tensor in zip(samples.inputs, variant.card.inputs, strict=True)]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            inputs_file, outputs_file = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            save_arrays(inputs_file, inputs)
            finished = run_child(
                "harness.tflite.interpreter",
                [variant.path, inputs_file, outputs_file, str(threads)],
                name=variant.name,
                timeout_s=_TIMEOUT_S,
            )
            if finished.returncode != 0:
                raise FailureError(_failure(variant, finished.returncode, finished.stderr))
            outputs_file.replace(file)


def _failure(variant: Variant, code: int, stderr: str) -> Failure:
    last = stderr.strip().splitlines()[-1:] or [""]
    if code < 0:
        return Failure(
            FailureClass.CRASHED, f"{variant.name} crashes the host's interpreter (signal {-code}).", last[0]
        )
    known = find_failure(split_lines(stderr))  # such as a custom operator
    failure_class = known.failure_class if known else FailureClass.INVALID_MODEL
    return Failure(failure_class, f"The host's interpreter cannot run {variant.name}.", last[0])
