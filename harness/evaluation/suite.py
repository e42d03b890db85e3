"""Everything that one variant is evaluated for, on this host or through a delegate, against the float model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from harness.accuracy.reference import HostOutputs
from harness.datasets.labelled import Samples, class_scores
from harness.errors import Failure, FailureError, UsageError
from harness.evaluation.attacks import Attacker, OwnAttacks, Surrogacy
from harness.evaluation.changed_images import Changed, ChangedImages, Condition, compare_condition
from harness.evaluation.layers import LayerError, layer_errors
from harness.evaluation.task import Outputs, Task, TaskComparison
from harness.evaluation.through_delegate import DelegateChange, ThroughDelegate, fell_back
from harness.progress import Observer
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

LAYER_SAMPLES = 16
"""Samples whose inner tensors are compared."""
HOST = "host"
GROUP_BYTES = 64 * 1024 * 1024
"""Changed samples that go through one process of this host: starting one takes longer than running a small model."""


@dataclass(frozen=True)
class Compared:
    """A variant next to the float model on one set of samples."""

    data: str
    samples: int
    comparison: TaskComparison


@dataclass(frozen=True)
class Evaluation:
    """One variant in one place."""

    variant: Variant
    delegate: str
    """`host`, or the delegate that computed the variant's outputs; the float model's are always the host's."""
    compared: tuple[Compared, ...] = ()
    """By set of samples, the model's own first. Empty after a failure."""
    conditions: tuple[Condition, ...] = ()
    """Empty if they were not asked for."""
    layers: tuple[LayerError, ...] = ()
    """Where the error comes from; known only on the host, because a delegate does not expose its tensors."""
    surrogacy: Surrogacy | None = None
    """Of the attacks that were made on the variant itself; None if attacks were not asked for."""
    change: DelegateChange | None = None
    """What the delegate changed; None on the host."""
    failure: Failure | None = None
    """Why nothing was compared, or what stands against what was: the delegate fell back."""


class Suite:
    """Evaluates variants of one model."""

    def __init__(
        self,
        task: Task,
        data: Mapping[str, Samples],
        float_variant: Variant,
        reference: HostOutputs,
        observer: Observer,
        *,
        changed: ChangedImages | None = None,
        attacker: Attacker | None = None,
    ) -> None:
        """Take the sets of samples by name; what is `changed` is compared as class scores."""
        self._task, self._data, self._changed, self._attacker = task, dict(data), changed, attacker
        self._float, self._reference, self._observer = float_variant, reference, observer
        self._own: tuple[str, OwnAttacks] | None = None
        """What was made on the last variant, by its hash: it is large, and used in every place where that runs."""

    def evaluate(self, variant: Variant, through: ThroughDelegate | None = None) -> Evaluation:
        """Evaluate one variant on the host, or through a delegate, whose failures are values.

        Raises `FailureError` if this host cannot run it, `UsageError` for outputs that the task cannot compare.
        """
        where = through.name if through else HOST
        own = self._own_attacks(variant)
        attacks = [*self._attacker.transferred, *(own.changed if own else ())] if self._attacker else []
        bar = f"evaluating {variant.name} on {where}"
        images = self._changed or ()
        self._observer.begin(bar, len(self._data) + len(images) + len(attacks) + 1)
        changed = chain(images, attacks)
        try:
            found = self._through(bar, variant, changed, through) if through else self._on_host(bar, variant, changed)
            return replace(found, surrogacy=own.surrogacy if own else None)
        finally:
            self._observer.end(bar)

    def _own_attacks(self, variant: Variant) -> OwnAttacks | None:
        """Return what was made on the variant itself, made once for all places where it runs."""
        if self._attacker is None:
            return None
        if self._own is None or self._own[0] != variant.sha256:
            self._observer.note(f"Attacking {variant.name}.")
            self._own = variant.sha256, self._attacker.own(variant)
        return self._own[1]

    def _on_host(self, bar: str, variant: Variant, changed: Iterable[Changed]) -> Evaluation:
        compared, conditions = self._all(bar, variant, changed, self._reference)
        layers = layer_errors(variant, self._float, next(iter(self._data.values())).first(LAYER_SAMPLES))
        self._observer.advance(bar, "layers")
        return Evaluation(variant, HOST, compared, conditions, tuple(layers))

    def _through(self, bar: str, variant: Variant, changed: Iterable[Changed], through: ThroughDelegate) -> Evaluation:
        try:
            change = through.change(variant, next(iter(self._data.values())))
            self._observer.advance(bar, "what the delegate changed")
            compared, conditions = self._all(bar, variant, changed, through)
        except FailureError as error:
            return Evaluation(variant, through.name, failure=error.failure)
        return Evaluation(variant, through.name, compared, conditions, change=change, failure=fell_back(change))

    def _all(
        self, bar: str, variant: Variant, changed: Iterable[Changed], runner: HostOutputs | ThroughDelegate
    ) -> tuple[tuple[Compared, ...], tuple[Condition, ...]]:
        compared, conditions = [], []
        for name, samples in self._data.items():
            compared.append(self._compared(name, samples, variant, runner.outputs(variant, samples)))
            self._observer.advance(bar, name)
        for group in _groups(changed, 1 if isinstance(runner, ThroughDelegate) else GROUP_BYTES):
            scores = _outputs(runner, variant, [one.samples for one in group])
            floats = _outputs(self._reference, self._float, [one.float_samples or one.samples for one in group])
            for one, found, exact in zip(group, scores, floats, strict=True):
                conditions.append(compare_condition(one, class_scores(found, exact), class_scores(exact)))
                self._observer.advance(bar, one.name)
        return tuple(compared), tuple(conditions)

    def _compared(self, data: str, samples: Samples, variant: Variant, found: Sequence[FloatArray]) -> Compared:
        """Compare what came back, which may be fewer samples than were sent."""
        count = len(found[0])
        floats = self._reference.outputs(self._float, samples)
        names = [tensor.title for tensor in self._float.card.outputs]
        order = sorted(range(len(names)), key=lambda place: place != samples.scored)
        new: Outputs = {names[place]: found[place] for place in order if place < len(found)}
        old: Outputs = {names[place]: floats[place][:count] for place in order}
        shapes, float_shapes = ([array.shape[1:] for array in arrays] for arrays in (found, floats))
        if shapes != float_shapes:
            raise UsageError(
                f"{variant.name} gives outputs of the shapes {shapes} a sample, the float model {float_shapes}.",
                "Only files that give the same outputs can be compared.",
            )
        labels = None if samples.labels is None else samples.labels[:count]
        return Compared(data, count, self._task.compare(new, old, labels))


def _groups(changed: Iterable[Changed], most_bytes: int) -> Iterator[list[Changed]]:
    """Yield runs of samples that together are not larger than this many bytes; a single one may be."""
    group: list[Changed] = []
    size = 0
    for one in changed:
        one_size = one.samples.inputs[0].nbytes
        if group and size + one_size > most_bytes:
            yield group
            group, size = [], 0
        group.append(one)
        size += one_size
    if group:
        yield group


def _outputs(runner: HostOutputs | ThroughDelegate, variant: Variant, group: Sequence[Samples]) -> list[FloatArray]:
    """Return the scored output of each; those of a group go through one process."""
    scored = group[0].scored
    if len(group) == 1:
        return [runner.outputs(variant, group[0])[scored]]
    joined = Samples((np.concatenate([one.inputs[0] for one in group]),), None)
    ends = np.cumsum([len(one) for one in group])
    return np.split(runner.outputs(variant, joined)[scored], ends[:-1])
