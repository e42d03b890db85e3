"""Everything that one variant is evaluated for on this host, against the float model on the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.accuracy.dataset import Dataset, Samples, choose_samples
from harness.accuracy.metrics import proportion
from harness.accuracy.outcome import Proportion
from harness.accuracy.reference import Reference
from harness.compression.variant import Variant
from harness.evaluation.corruptions import SEVERITIES, Images, corrupt, corruption_names
from harness.evaluation.fidelity import Fidelity, Paired, compare_fidelity, compare_paired, probabilities
from harness.evaluation.layers import LayerError, layer_errors
from harness.evaluation.shifts import SHIFTS
from harness.progress import Observer

LAYER_SAMPLES = 16
"""Samples whose inner tensors are compared."""


@dataclass(frozen=True)
class Condition:
    """What a variant gives on changed images."""

    name: str
    kind: str
    """`noise`, `blur`, `weather`, `digital` or `shift`."""
    severity: int | None
    """1 to 5; None for a shift."""
    top1: Proportion
    float_top1: float
    paired: Paired
    """Against the float model on the same changed images."""


@dataclass(frozen=True)
class Evaluation:
    """One variant."""

    variant: Variant
    samples: int
    fidelity: Fidelity
    conditions: tuple[Condition, ...]
    """Empty where only fidelity was asked for."""
    layers: tuple[LayerError, ...]


class Suite:
    """Evaluates variants of one model on samples of its data set."""

    def __init__(
        self, dataset: Dataset, float_variant: Variant, reference: Reference, observer: Observer, *, count: int,
        condition_count: int,
    ) -> None:  # fmt: skip
        """`count` samples tell fidelity; `condition_count` of them are corrupted and shifted; 0 leaves that out."""
        self._dataset, self._float, self._reference, self._observer = dataset, float_variant, reference, observer
        self._samples = choose_samples(dataset, count)
        self._changed = list(self._conditions(condition_count)) if condition_count else []

    def _conditions(self, count: int) -> Iterator[tuple[str, str, int | None, Samples]]:
        """Yield name, kind, severity and samples of every condition; the images are changed before preprocessing."""
        chosen = choose_samples(replace(self._dataset, scale=1.0, offset=0.0), count)
        images = chosen.inputs[0].round().astype("uint8")

        def samples(changed: Images) -> Samples:
            return Samples((self._dataset.as_input(changed),), chosen.labels)

        for name, family in corruption_names().items():
            for severity in SEVERITIES:
                yield name, family, severity, samples(corrupt(images, name, severity))
        for name, shift in SHIFTS.items():
            yield name, "shift", None, samples(shift(images))

    def evaluate(self, variant: Variant) -> Evaluation:
        """Evaluate one variant. Raises `FailureError` where this host cannot run it."""
        bar = f"evaluating {variant.name}"
        self._observer.begin(bar, 2 + len(self._changed))
        try:
            fidelity = self._fidelity(variant)
            self._observer.advance(bar, "layers")
            layers = layer_errors(variant, self._float, self._samples.first(LAYER_SAMPLES))
            self._observer.advance(bar, "corruptions and shifts")
            conditions = []
            for name, kind, severity, samples in self._changed:
                conditions.append(self._condition(variant, name, kind, severity, samples))
                self._observer.advance(bar, name)
        finally:
            self._observer.end(bar)
        return Evaluation(variant, len(self._samples), fidelity, tuple(conditions), tuple(layers))

    def _fidelity(self, variant: Variant) -> Fidelity:
        scores, floats = (self._reference.outputs(one, self._samples)[0] for one in (variant, self._float))
        assert self._samples.labels is not None  # noqa: S101 - a data set has labels
        return compare_fidelity(scores, floats, self._samples.labels)

    def _condition(self, variant: Variant, name: str, kind: str, severity: int | None, samples: Samples) -> Condition:
        right, float_right = (
            probabilities(self._reference.outputs(one, samples)[0]).argmax(axis=1) == samples.labels
            for one in (variant, self._float)
        )
        return Condition(
            name, kind, severity, proportion(int(right.sum()), len(right)), float(float_right.mean()),
            compare_paired(right, float_right),
        )  # fmt: skip
