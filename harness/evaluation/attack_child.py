"""Attacks on one `.tflite`, by its copy's gradient: `python -m harness.evaluation.attack_child MODEL IN OUT PLACE`.

A process of its own: TensorFlow is large, and a broken file may crash it. `IN`, a .npz file, holds `inputs`, `labels`,
`limits` and `epsilons`; `OUT` gets `clean`, the copy's scores of the inputs as they are, and `NAME-NUMBER` for each
attack and the place of its epsilon. `PLACE` is that of the scored output in the signature.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.evaluation.surrogate import NoGradientError, Surrogate
from harness.evaluation.task import Labels
from harness.tflite.tensors import FloatArray

NO_GRADIENT = 9
"""Exit code; the last line of stderr says why."""


def main() -> None:
    """Read the samples, write the attacked ones."""
    model, inputs_file, outputs_file, scored = sys.argv[1:]
    with np.load(inputs_file) as archive:
        inputs, labels, limits, epsilons = (archive[name] for name in ("inputs", "labels", "limits", "epsilons"))
    try:
        surrogate = Surrogate(Path(model), int(scored))
    except NoGradientError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the parent
        sys.exit(NO_GRADIENT)
    low, high = map(float, limits)
    attacked = {
        f"{name}-{place}": attack(inputs, labels, surrogate.gradient, float(epsilon), (low, high))
        for name, attack in ATTACKS.items()
        for place, epsilon in enumerate(epsilons)
    }
    np.savez(outputs_file, clean=surrogate.logits(inputs), **attacked)  # type: ignore[arg-type]


Gradient = Callable[[FloatArray, Labels], FloatArray]
"""Of the loss of each sample in its inputs."""
Limits = tuple[float, float]
"""Smallest and largest value that an input can have."""
Attack = Callable[[FloatArray, Labels, Gradient, float, Limits], FloatArray]

PGD_STEPS = 10
PGD_REACH = 2.5
"""The steps together go this many times as far as the bound (Madry et al. 2018), so that they can turn around in it."""
EPSILONS = (1, 2, 4, 8)
"""Bounds in steps of a pixel's 255."""


def fgsm(inputs: FloatArray, labels: Labels, gradient: Gradient, epsilon: float, limits: Limits) -> FloatArray:
    """Go as far as the bound once, in the direction in which the loss rises (Goodfellow et al. 2015, section 4)."""
    moved = inputs + np.float32(epsilon) * np.sign(gradient(inputs, labels))
    return np.asarray(np.clip(moved, *limits), np.float32)


def pgd(inputs: FloatArray, labels: Labels, gradient: Gradient, epsilon: float, limits: Limits) -> FloatArray:
    """Go in small steps from a random place inside the bound, and back into it after each (Madry et al. 2018).

    One start; largest-difference bound; steps of `2.5 * epsilon / 10`.
    """
    low, high = (np.clip(inputs + np.float32(side * epsilon), *limits) for side in (-1, 1))
    found = np.random.default_rng(0).uniform(low, high).astype(np.float32)
    step = np.float32(PGD_REACH * epsilon / PGD_STEPS)
    for _ in range(PGD_STEPS):
        found = np.asarray(np.clip(found + step * np.sign(gradient(found, labels)), low, high), np.float32)
    return np.asarray(found, np.float32)


ATTACKS: dict[str, Attack] = {"FGSM": fgsm, "PGD": pgd}


if __name__ == "__main__":
    main()
