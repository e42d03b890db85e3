"""A module of harness run on files in a process of its own: a broken model may crash it, and TensorFlow stays out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Failure, FailureClass, FailureError


def run_child(
    module: str,
    arguments: Sequence[str | Path],
    *,
    name: str,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS...` for the variant called `name`, and wait for its end, however that is.

    `environment` is laid over this process's own. Raises `FailureError` when it takes too long.
    """
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]  # no module out of the user's own folder
    try:
        return subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            timeout=timeout_s,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        failure = Failure(FailureClass.TIMEOUT, f"The host needed over {timeout_s:g} s for {name}.")
        raise FailureError(failure) from error


def last_words(finished: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a child wrote to stderr, or its exit code where there is none."""
    return (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]


def save_arrays(file: Path, arrays: Sequence[NDArray[Any]]) -> None:
    """Write arrays into a .npz file, in their order."""
    np.savez(file, **{str(index): array for index, array in enumerate(arrays)})  # type: ignore[arg-type]


def load_arrays(file: str | Path) -> list[NDArray[Any]]:
    """Read what `save_arrays` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return [archive[str(index)] for index in range(len(archive.files))]
