"""Changed images under which variants are compared with the float model: corruptions, shifts, attacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.accuracy.metrics import proportion
from harness.accuracy.outcome import Proportion
from harness.datasets.labelled import Dataset, Samples, choose_samples
from harness.evaluation.corruptions import SEVERITIES, Images, corrupt, corruption_names
from harness.evaluation.fidelity import Paired, compare_paired, probabilities
from harness.evaluation.shifts import SHIFTS
from harness.tflite.tensors import FloatArray

TRANSFERRED = "transferred"
"""Attacks that were made on the float model."""
OWN = "own"
"""Attacks that were made on the variant itself."""


@dataclass(frozen=True)
class Changed:
    """Samples that were changed on purpose."""

    name: str
    kind: str
    """`noise`, `blur`, `weather`, `digital`, `shift`, `transferred` or `own`."""
    severity: int | None
    """1 to 5; None for a shift or an attack."""
    samples: Samples
    float_samples: Samples | None = None
    """What the float model gets instead; None: the same."""


@dataclass(frozen=True)
class Condition:
    """What a variant gives on changed images."""

    name: str
    kind: str
    severity: int | None
    top1: Proportion
    float_top1: float
    paired: Paired
    """Against the float model on the same images, changed alike; in `own`, each faces what was made on itself."""


class ChangedImages:
    """Images under every condition; made anew each time that they are gone through, since all would be large."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        """Choose `count` images of a data set; they are changed before preprocessing."""
        self._dataset = dataset
        chosen = choose_samples(replace(dataset, scale=1.0, offset=0.0), count)
        self._images: Images = chosen.inputs[0].round().astype("uint8")
        self._labels = chosen.labels

    def __len__(self) -> int:
        return len(corruption_names()) * len(SEVERITIES) + len(SHIFTS)

    def __iter__(self) -> Iterator[Changed]:
        for name, family in corruption_names().items():
            for severity in SEVERITIES:
                yield Changed(name, family, severity, self._samples(corrupt(self._images, name, severity)))
        for name, shift in SHIFTS.items():
            yield Changed(name, "shift", None, self._samples(shift(self._images)))

    def _samples(self, changed: Images) -> Samples:
        return Samples((self._dataset.as_input(changed),), self._labels)


def compare_condition(changed: Changed, scores: FloatArray, floats: FloatArray) -> Condition:
    """Compare a variant's class scores on changed samples with the float model's; as many as the variant gave."""
    assert changed.samples.labels is not None  # noqa: S101 - changed images come from a data set
    labels = changed.samples.labels[: len(scores)]
    right, float_right = (
        probabilities(one[: len(scores)]).argmax(axis=1) == labels for one in (scores, floats)
    )  # fmt: skip
    return Condition(
        changed.name, changed.kind, changed.severity, proportion(int(right.sum()), len(right)),
        float(float_right.mean()), compare_paired(right, float_right),
    )  # fmt: skip
