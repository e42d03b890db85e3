"""Keep the ranges of a calibration in a file, so that many recipes share one calibration."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.compression.calibration import Sample
    from harness.compression.graph.quantizer import Ranges


def ranges_file(folder: Path, graph: bytes, samples: list[Sample], kind: str) -> Path:
    """Return the file of a graph's ranges over samples: its name is a hash of all that decides them."""
    digest = hashlib.sha256(graph)
    digest.update(kind.encode())
    for sample in samples:
        for name, values in sample.items():
            digest.update(name.encode() + repr(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return folder / f"{digest.hexdigest()}.json"


def read_ranges(file: Path) -> Ranges | None:
    """Return the ranges in a file, None where there is none."""
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
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(file)
