"""How near the outputs of one graph come to those of another on the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets

SAMPLES = 32
"""Enough to tell rules for ranges apart."""
_HIGHEST_DB = 100.0
"""Outputs that are equal."""


Outputs = dict[str, list[dict[str, NDArray[Any]]]]
"""By signature and sample, every output by its name."""


def mean_snr_db(wanted: Outputs | None, made: bytes, samples: SampleSets) -> float:
    """Return the mean signal to noise of all outputs of a graph, where `wanted` is what they should be."""
    return float(np.mean(_output_snr_db(wanted, made, samples) or [_HIGHEST_DB]))


def output_snr_db(floats: bytes, made: bytes, samples: SampleSets) -> list[float]:
    """Return the signal to noise of each output of each signature.

    Both graphs have the same signatures, with inputs and outputs of the same types. One that does not run has -100 dB.
    """
    return _output_snr_db(outputs(floats, samples), made, samples)


def outputs(graph: bytes, samples: SampleSets) -> Outputs | None:
    """Return what a graph answers to the first `SAMPLES` of each signature; None if it does not run."""
    try:
        return _outputs(graph, samples)
    except (RuntimeError, ValueError):  # such a file is refused for its own reasons, in words
        return None


def _outputs(graph: bytes, samples: SampleSets) -> Outputs:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graph)
    found: Outputs = {}
    for key, sets in samples.items():
        runner = interpreter.get_signature_runner(key)
        for sample in sets[:SAMPLES]:
            interpreter.reset_all_variables()
            found.setdefault(key, []).append(runner(**sample))
    return found


def _output_snr_db(wanted: Outputs | None, made: bytes, samples: SampleSets) -> list[float]:
    answers = outputs(made, samples)
    if wanted is None or answers is None:
        return [-_HIGHEST_DB]
    found = []
    for key, exact in wanted.items():
        for name in exact[0]:
            pairs = [
                (one[name].astype(np.float64), other[name]) for one, other in zip(exact, answers[key], strict=True)
            ]
            signal = sum(float(np.square(one).sum()) for one, _ in pairs)
            found.append(_decibels(signal, sum(float(np.square(other - one).sum()) for one, other in pairs)))
    return found


def _decibels(signal: float, noise: float) -> float:
    if not np.isfinite(signal) or not np.isfinite(noise):
        return -_HIGHEST_DB
    if noise <= 0:
        return _HIGHEST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / noise), -_HIGHEST_DB, _HIGHEST_DB))
