"""Run a variant in the official benchmark_model 2.14.1, with real inputs in and real outputs out."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def run_official(
    tools: Path, variant: Path, inputs: NDArray[Any] | Sequence[NDArray[Any]], folder: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    """Run once on an array, or on one per input of the graph; the raw outputs are then in `folder / "out.bin"`."""
    arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    names = [f"x{index}" for index in range(len(arrays))]
    for name, array in zip(names, arrays, strict=True):
        array.tofile(folder / f"{name}.bin")
    shapes = [",".join(str(size) for size in array.shape) for array in arrays]
    command = [
        tools / "benchmark_model",
        f"--graph={variant}",
        "--num_runs=1",
        "--min_secs=0",
        "--warmup_runs=0",
        "--warmup_min_secs=0",
        f"--input_layer={','.join(names)}",
        f"--input_layer_shape={':'.join(shapes)}",
        f"--input_layer_value_files={','.join(f'{name}:{folder / name}.bin' for name in names)}",
        f"--output_filepath={folder / 'out.bin'}",
        *flags,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
