"""Accuracy and correctness of one cell: real inputs through the device's delegate, its outputs checked and scored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.outcome import Accuracy, AccuracyOutcome, OutputCheck
from harness.accuracy.output_check import (
    check_outputs,
    describe_failed_check,
    limits_for,
    proportion,
    same_label_hits,
    top_k_hits,
)
from harness.accuracy.reference import HostOutputs
from harness.accuracy.sending import AccuracyTarget, Sender
from harness.benchmark.invocation import Delegation, InvocationRequest
from harness.benchmark.program import program_of
from harness.datasets.labelled import Samples, class_scores
from harness.errors import Failure, FailureClass, FailureError
from harness.files import failure_of_host
from harness.spec.limits import OutputLimits
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

__all__ = ["AccuracyTarget", "CheckData", "measure_accuracy"]

_TOP_5_FROM_CLASSES = 6
_FEWEST_FOR_DOUBT = 50
"""With fewer samples, a good model may be right as seldom as by chance."""
_HOST_NOTE = "Outputs are those of the interpreter of the same runtime: its benchmark gives none of its own."


@dataclass(frozen=True)
class CheckData:
    """What every cell of a sweep is checked with: the samples, and what the host computes from them."""

    samples: Samples
    reference: HostOutputs
    float_variant: Variant | None
    """The float model; None if only outputs can be checked."""
    limits: OutputLimits = field(default_factory=OutputLimits)
    """How far outputs may be from the host's."""

    @property
    def scored_title(self) -> str:
        """Name of the output that the labels are for; empty if there is only one, or none is scored."""
        if self.samples.labels is None or self.float_variant is None or not self.float_variant.card.outputs[1:]:
            return ""
        return self.float_variant.card.outputs[self.samples.scored].title

    @cached_property
    def sha256(self) -> str:
        """Identity of samples, labels, limits and float model: what was checked with others is checked again."""
        labels = b"" if self.samples.labels is None else self.samples.labels.tobytes()
        model = self.float_variant.sha256 if self.float_variant else ""
        settings = f"{self.samples.sha256} {model} {self.limits.model_dump_json()} {self.scored_title}".rstrip()
        return hashlib.sha256(settings.encode() + labels).hexdigest()


def measure_accuracy(
    target: AccuracyTarget, evidence: CheckData, *, clock: Callable[[], float] = time.monotonic
) -> AccuracyOutcome:
    """Send the samples through, check the outputs and score them. Never raises for what the device or tool did."""
    started = clock()
    check: OutputCheck | None = None
    accuracy: Accuracy | None = None
    failure: Failure | None = None
    per_process, note, logs = 0, "", list[str]()
    try:
        expected = evidence.reference.outputs(target.variant, evidence.samples)
        program = program_of(target.tool)
        if program.host_only:
            request = InvocationRequest(target.variant_path, target.delegate, target.threads)
            program.arguments(target.tool, target.tool_path, request)  # refuses what it cannot measure either
            outputs, per_process, note = expected, len(evidence.samples), _HOST_NOTE
        else:
            sender = Sender(target, evidence.samples, [array.shape[1:] for array in expected], clock)
            logs = sender.logs
            sender.send()
            outputs = sender.joined()
            if not _judge(target.variant, outputs, expected, evidence)[0].passed and sender.resend_if_mixed():
                outputs = sender.joined()
            per_process = sender.samples_per_process
            note = " ".join(filter(None, [sender.note, _fallback_note(sender.delegation)]))
        check, accuracy, judged = _judge(target.variant, outputs, expected, evidence)
        note = " ".join(filter(None, [note, judged]))
        if not check.passed:
            failure = Failure(FailureClass.WRONG_OUTPUT, describe_failed_check(check), check.limits)
    except FailureError as error:
        failure = error.failure
    except OSError as error:  # temporary files on this host
        failure = failure_of_host(error)
    return AccuracyOutcome(check, accuracy, failure, per_process, note, "\n".join(logs), clock() - started)


def _judge(
    variant: Variant, outputs: tuple[FloatArray, ...], expected: tuple[FloatArray, ...], evidence: CheckData
) -> tuple[OutputCheck, Accuracy | None, str]:
    """Check and score the first samples, as many as came back; say which output was scored, and doubts about labels."""
    count = len(outputs[0])
    samples = evidence.samples.first(count)
    check = check_outputs(
        outputs,
        [array[:count] for array in expected],
        limits_for(variant.card, evidence.limits),
        real_samples=samples.labels is not None,
        scored=samples.scored,
    )
    check = replace(check, evidence_sha256=evidence.sha256)
    if samples.labels is None or evidence.float_variant is None:
        return check, None, ""
    floats = evidence.reference.outputs(evidence.float_variant, evidence.samples)[samples.scored][:count]
    scores, floats, labels = class_scores(outputs[samples.scored], floats), class_scores(floats), samples.labels
    many_classes = scores.shape[1] >= _TOP_5_FROM_CLASSES
    accuracy = Accuracy(
        samples=count,
        top1=proportion(top_k_hits(scores, labels, 1), count),
        top5=proportion(top_k_hits(scores, labels, 5), count) if many_classes else None,
        agreement=proportion(same_label_hits(scores, floats), count),
        float_top1=top_k_hits(floats, labels, 1) / count,
    )
    title = evidence.scored_title
    which = f"Scored output: {title}, number {samples.scored + 1} of {len(outputs)}." if title else ""
    return check, accuracy, " ".join(filter(None, [which, _label_doubt(floats, labels)]))


def _label_doubt(floats: FloatArray, labels: NDArray[np.int64]) -> str:
    """Say what in the float model's answers speaks against labels or preprocessing; empty if nothing does."""
    count, classes = floats.shape
    right = proportion(top_k_hits(floats, labels, 1), count)
    for shift in (1, -1) if classes > 2 else ():  # noqa: PLR2004 - of two classes, a shift swaps them
        moved = labels + shift
        if moved.min() < 0 or moved.max() >= classes:
            continue
        shifted = proportion(top_k_hits(floats, moved, 1), count)
        if shifted.low > 2 * right.high:
            return (
                f"The labels look shifted by one: the float model's top-1 is {right.value:.1%}, "
                f"but {shifted.value:.1%} with labels {'+' if shift > 0 else '-'} 1 (a background class?)."
            )
    if count < _FEWEST_FOR_DOUBT or len(np.unique(labels)) == 1:
        return ""
    if len(answers := np.unique(floats.argmax(axis=1))) == 1:
        return f"The float model answers class {answers[0]} to every sample: check [preprocessing]."
    if right.low <= 1 / classes and right.value < 1.5 / classes:
        return (
            f"The float model's top-1 of {right.value:.1%} is no better than chance among {classes} classes: check "
            "[preprocessing] and the labels."
        )
    return ""


def _fallback_note(delegation: Delegation | None) -> str:
    """Say what ran elsewhere than asked: such samples prove nothing about the delegate."""
    if delegation is None or not delegation.fell_back:
        return ""
    if delegation.achieved != delegation.requested:
        return f"The samples ran on {delegation.achieved}, so they prove nothing about {delegation.requested}."
    nodes = f"{delegation.delegated_nodes} of {delegation.total_nodes} nodes" if delegation.total_nodes else "a part"
    return f"Only {nodes} of the samples' run was on {delegation.requested}."
