"""Adversarial samples for every variant: made on the float model and handed on, and made on the variant itself."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.accuracy.reference import HostOutputs
from harness.datasets.labelled import Dataset, Samples, choose_samples, class_scores
from harness.errors import Failure, FailureClass, FailureError
from harness.evaluation.attack_child import ATTACKS, EPSILONS, NO_GRADIENT
from harness.evaluation.changed_images import OWN, TRANSFERRED, Changed
from harness.evaluation.fidelity import probabilities
from harness.tflite.child import last_words, run_child
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

_TIMEOUT_S = 3600
_PIXELS = 255


@dataclass(frozen=True)
class Surrogacy:
    """How well the copy with a gradient, which was attacked, stands for the variant."""

    agreement: float | None
    """Share of clean samples to which both give the same class."""
    refusal: str = ""
    """Why there is no copy."""


@dataclass(frozen=True)
class OwnAttacks:
    """What was made on one variant."""

    changed: tuple[Changed, ...]
    """Empty if its graph has no copy with a gradient."""
    surrogacy: Surrogacy


class Attacker:
    """Attacks labelled images within several bounds."""

    def __init__(self, dataset: Dataset, count: int, float_variant: Variant, reference: HostOutputs) -> None:
        """Attack the float model. Raises `FailureError` if its graph has no gradient."""
        self.samples, self._reference = choose_samples(dataset, count), reference
        ends = [pixel * dataset.scale + dataset.offset for pixel in (0, _PIXELS)]
        self._limits = min(ends), max(ends)
        self._epsilons = [abs(dataset.scale) * pixels for pixels in EPSILONS]
        self._float_attacked, _ = self._attacked(float_variant)

    @property
    def transferred(self) -> tuple[Changed, ...]:
        """What was made on the float model, for any variant."""
        return tuple(Changed(name, TRANSFERRED, None, samples) for name, samples in self._float_attacked.items())

    def own(self, variant: Variant) -> OwnAttacks:
        """Attack a variant by its own gradient; the float model then faces what was made on it."""
        try:
            attacked, clean = self._attacked(variant)
        except FailureError as error:
            return OwnAttacks((), Surrogacy(None, error.failure.message))
        scores = class_scores(self._reference.outputs(variant, self.samples)[self.samples.scored])
        same = probabilities(scores).argmax(axis=1) == clean.argmax(axis=1)
        changed = (Changed(name, OWN, None, samples, self._float_attacked[name]) for name, samples in attacked.items())
        return OwnAttacks(tuple(changed), Surrogacy(float(same.mean())))

    def _attacked(self, variant: Variant) -> tuple[dict[str, Samples], FloatArray]:
        """Return samples by attack and bound, and the copy's scores of the clean ones. Raises `FailureError`."""
        with tempfile.TemporaryDirectory(prefix="harness-attacks-") as folder:
            inputs_file, outputs_file = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            assert self.samples.labels is not None  # noqa: S101 - chosen from a data set
            np.savez(
                inputs_file,
                inputs=self.samples.inputs[0],
                labels=self.samples.labels,
                limits=self._limits,
                epsilons=self._epsilons,
            )
            done = run_child(
                "harness.evaluation.attack_child",
                [variant.path, inputs_file, outputs_file, str(self.samples.scored)],
                name=variant.name,
                timeout_s=_TIMEOUT_S,
                environment={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
            )
            if done.returncode != 0:
                raise FailureError(_failure(variant, done))
            with np.load(outputs_file) as archive:
                attacked = {
                    f"{name} {pixels}/{_PIXELS}": replace(self.samples, inputs=(archive[f"{name}-{place}"],))
                    for name in ATTACKS
                    for place, pixels in enumerate(EPSILONS)
                }
                return attacked, archive["clean"]


def _failure(variant: Variant, done: subprocess.CompletedProcess[str]) -> Failure:
    if done.returncode == NO_GRADIENT:
        message = f"{variant.name} cannot be attacked by its own gradient: {last_words(done)}."
        return Failure(FailureClass.UNSUPPORTED_OP, message)
    return Failure(FailureClass.INTERNAL, f"Attacking {variant.name} failed.", last_words(done))
