"""The Keras model that is compiled and fitted: the network seen through views, taught by labels and by a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from harness.compression.training.kernels import Kernel
from harness.compression.training.views import View

Untyped: TypeAlias = Any
"""A tensor or model: Keras has no types."""

SMALLEST_PROBABILITY = 1e-7
_SUM_TOLERANCE = 1e-3
"""Probabilities in half precision add up to one this exactly."""


@dataclass(frozen=True)
class Lesson:
    """What the network is to imitate besides the labels (Hinton et al. 2015, "Distilling the Knowledge").

    `hints` are names of layers whose attention maps are imitated too (Zagoruyko and Komodakis 2017, "Paying More
    Attention to Attention"): maps have no channels, so student and teacher may differ in width.
    """

    teacher: Untyped
    share: float
    """Weight of the teacher's word against the labels': 0 to 1."""
    temperature: float
    hints: tuple[str, ...] = ()
    hint_weight: float = 1.0


class Learner(keras.Model):  # type: ignore[misc] # Keras has no types
    """A network whose kernels are seen through views while it trains."""

    def __init__(
        self,
        network: Untyped,
        kernels: Sequence[Kernel] = (),
        views: Mapping[str, Sequence[View]] | None = None,
        lesson: Lesson | None = None,
        *,
        from_logits: bool = False,
        teacher_from_logits: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self._with_hints = _with_hints(network, lesson.hints) if lesson and lesson.hints else None
        # Behind functions, so that Keras neither trains nor saves the teacher and the masks.
        seen = [(kernel.variable, (views or {}).get(kernel.name, ())) for kernel in kernels]
        self._views: Callable[[], list[tuple[Untyped, Sequence[View]]]] = lambda: seen
        self._lesson = (lambda: lesson) if lesson and lesson.share > 0 else None
        self._teacher = _teacher_of(lesson)
        self.from_logits = from_logits
        self._teacher_from_logits = teacher_from_logits

    def call(self, images: Untyped, training: bool = False) -> Untyped:
        """Return the network's output on a batch."""
        return self._seen(self.network, images, training)

    def compute_loss(
        self,
        x: Untyped = None,
        y: Untyped = None,
        y_pred: Untyped = None,
        sample_weight: Untyped = None,
        training: bool = True,
    ) -> Untyped:
        """Return the batch's loss: labels' and teacher's shares; validation counts the labels alone."""
        labels = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=self.from_logits)
        loss = ops.mean(labels)
        if not training or self._lesson is None:
            return loss
        lesson = self._lesson()
        taught, *teacher_maps = self._teacher(x)
        student = ops.log_softmax(_logits(y_pred, self.from_logits) / lesson.temperature)
        target = ops.softmax(_logits(taught, self._teacher_from_logits) / lesson.temperature)
        soft = -ops.mean(ops.sum(target * student, axis=-1)) * lesson.temperature**2
        loss = (1 - lesson.share) * loss + lesson.share * soft
        if teacher_maps:
            _, *maps = self._seen(self._with_hints, x, training)
            loss = loss + lesson.hint_weight * _mean_distance(maps, teacher_maps)
        return loss

    def _seen(self, network: Untyped, images: Untyped, training: bool) -> Untyped:
        seen = []
        for variable, views in self._views():
            value = variable.value
            for view in views:
                value = view(value)
            seen.append((variable, value))
        with keras.StatelessScope(state_mapping=seen) as scope:
            outputs = network(images, training=training)
        if training:  # what the scope held back: statistics of batch normalization and of activations
            for variable in network.non_trainable_variables:
                value = scope.get_current_value(variable)
                if value is not None:
                    variable.assign(value)
        return outputs


def gives_probabilities(network: Untyped, samples: Untyped) -> bool:
    """Return True if the answers to the samples are probabilities that add up to one; otherwise they are logits.

    The answers decide, not the layers: a softmax may be a layer, an activation or a function, and a reshape or a change
    of the number format may follow it.
    """
    answers = np.asarray(network(samples, training=False), np.float64)
    return bool((answers >= 0).all() and np.allclose(answers.sum(axis=-1), 1, atol=_SUM_TOLERANCE))


def _teacher_of(lesson: Lesson | None) -> Untyped:
    if lesson is None:
        return None
    if not lesson.hints:
        teacher = lesson.teacher
        return lambda images: [teacher(images, training=False)]
    with_hints = _with_hints(lesson.teacher, lesson.hints)
    return lambda images: with_hints(images, training=False)


def _with_hints(network: Untyped, hints: Sequence[str]) -> Untyped:
    return keras.Model(network.inputs, [network.outputs[0], *(network.get_layer(name).output for name in hints)])


def _logits(output: Untyped, from_logits: bool) -> Untyped:
    """Return logits; the logarithm of probabilities differs from them by a constant, which softmax ignores."""
    return output if from_logits else ops.log(ops.maximum(output, SMALLEST_PROBABILITY))


def _mean_distance(student: Sequence[Untyped], teacher: Sequence[Untyped]) -> Untyped:
    distances = [
        ops.mean(ops.sum(ops.square(_attention(ours) - _attention(theirs)), axis=-1))
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return sum(distances) / len(distances)


def _attention(features: Untyped) -> Untyped:
    """Return (batch, height * width): where the squared activations lie, as a unit vector."""
    energy = ops.mean(ops.square(features), axis=-1)
    flat = ops.reshape(energy, (ops.shape(energy)[0], -1))
    return flat / (ops.norm(flat, axis=-1, keepdims=True) + SMALLEST_PROBABILITY)
