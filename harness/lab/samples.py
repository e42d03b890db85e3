"""The samples of a sweep as a file that travels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from harness.datasets.labelled import Samples
from harness.files import sha256_of

_LABELS = "labels"


def save_samples(samples: Samples, folder: Path) -> tuple[str, Path]:
    """Write samples into a folder under the SHA-256 of the file, which is returned with its path."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {str(index): array for index, array in enumerate(samples.inputs)}
    labels = {} if samples.labels is None else {_LABELS: samples.labels}
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez(file, **arrays, **labels)  # type: ignore[arg-type]
    part = Path(file.name)
    sha256 = sha256_of(part)
    return sha256, part.replace(folder / f"{sha256}.npz")


def load_samples(file: Path) -> Samples:
    """Read what `save_samples` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        inputs = tuple(archive[name] for name in sorted(set(archive.files) - {_LABELS}, key=int))
        return Samples(inputs, archive[_LABELS] if _LABELS in archive.files else None)
