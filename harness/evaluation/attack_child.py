"""Attacks on one `.tflite`, by its copy's gradient: `python -m harness.evaluation.attack_child MODEL IN OUT`.

A process of its own: TensorFlow is large, and a broken file may crash it. `IN`, a .npz file, holds `inputs`, `labels`,
`limits` and `epsilons`; `OUT` gets `clean`, the copy's scores of the inputs as they are, and `NAME-NUMBER` for each
attack and the place of its epsilon.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from harness.evaluation.attacks import ATTACKS
from harness.evaluation.surrogate import NoGradientError, Surrogate

NO_GRADIENT = 9
"""Exit code; the last line of stderr says why."""


def main() -> None:
    """Read the samples, write the attacked ones."""
    model, inputs_file, outputs_file = sys.argv[1:]
    with np.load(inputs_file) as archive:
        inputs, labels, limits, epsilons = (archive[name] for name in ("inputs", "labels", "limits", "epsilons"))
    try:
        surrogate = Surrogate(Path(model))
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


if __name__ == "__main__":
    main()
