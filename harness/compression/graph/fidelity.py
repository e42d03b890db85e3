"""How near the outputs of one graph come to those of another on the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets

SAMPLES = 32
"""Enough to tell two rules for ranges apart; each costs a run of both graphs."""
_HIGHEST_DB = 100.0
"""Outputs that are equal."""


def mean_snr_db(floats: bytes, made: bytes, samples: SampleSets) -> float:
    """Return the mean of `output_snr_db`."""
    return float(np.mean(output_snr_db(floats, made, samples) or [_HIGHEST_DB]))


def output_snr_db(floats: bytes, made: bytes, samples: SampleSets) -> list[float]:
    """Return the signal to noise of each output of each signature.

    Both graphs have the same signatures, with inputs and outputs of the same types. One that does not run has -100 dB.
    """
    try:
        return _snr_db(floats, made, samples)
    except (RuntimeError, ValueError):  # such a file is refused for its own reasons, in words
        return [-_HIGHEST_DB]


def _snr_db(floats: bytes, made: bytes, samples: SampleSets) -> list[float]:
    from ai_edge_litert.interpreter import Interpreter

    found = []
    interpreters = [Interpreter(model_content=content) for content in (floats, made)]
    for key, sets in samples.items():
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        runners = [interpreter.get_signature_runner(key) for interpreter in interpreters]
        for sample in sets[:SAMPLES]:
            for interpreter in interpreters:
                interpreter.reset_all_variables()
            wanted, outputs = (runner(**sample) for runner in runners)
            for name, values in wanted.items():
                exact, other = (array.astype(np.float64) for array in (values, outputs[name]))
                signal[name] = signal.get(name, 0.0) + float(np.square(exact).sum())
                noise[name] = noise.get(name, 0.0) + float(np.square(other - exact).sum())
        found += [_decibels(signal[name], noise[name]) for name in signal]
    return found


def _decibels(signal: float, noise: float) -> float:
    if not np.isfinite(signal) or not np.isfinite(noise):
        return -_HIGHEST_DB
    if noise <= 0:
        return _HIGHEST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / noise), -_HIGHEST_DB, _HIGHEST_DB))
