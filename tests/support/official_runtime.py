"""Run a variant in the official benchmark_model 2.14.1, with real inputs in and real outputs out."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def run_official(
    tools: Path, variant: Path, inputs: NDArray[Any], folder: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    """Run once; the raw outputs are in `folder / "out.bin"` afterwards."""
    inputs.tofile(folder / "in.bin")
    shape = ",".join(str(size) for size in inputs.shape)
    command = [
        tools / "benchmark_model",
        f"--graph={variant}",
        "--num_runs=1",
        "--min_secs=0",
        "--warmup_runs=0",
        "--warmup_min_secs=0",
        "--input_layer=x",
        f"--input_layer_shape={shape}",
        f"--input_layer_value_files=x:{folder / 'in.bin'}",
        f"--output_filepath={folder / 'out.bin'}",
        *flags,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
