"""Images changed on purpose so that a model errs: within a bound that people hardly see, by the gradient of its loss.

Own code and no library: each attack is the few lines of its paper, while adversarial-robustness-toolbox and foolbox
attack models of a framework, not `.tflite` files, and cleverhans has had no release since 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.evaluation.task import Labels
from harness.tflite.tensors import FloatArray

Gradient = Callable[[FloatArray, Labels], FloatArray]
"""Of the loss of each sample in its inputs."""
Limits = tuple[float, float]
"""Smallest and largest value that an input can have."""
Attack = Callable[[FloatArray, Labels, Gradient, float, Limits], FloatArray]

PGD_STEPS = 10
PGD_REACH = 2.5
"""The steps together go so many times as far as the bound (Madry et al. 2018), so that they can turn around in it."""
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
