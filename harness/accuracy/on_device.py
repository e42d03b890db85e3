"""Accuracy and correctness of one cell: real inputs through the device's delegate, its outputs checked and scored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

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
from harness.datasets.labelled import Samples
from harness.errors import Failure, FailureClass, FailureError
from harness.files import failure_of_host
from harness.spec.limits import OutputLimits
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

__all__ = ["AccuracyTarget", "CheckData", "measure_accuracy"]

_TOP_5_FROM_CLASSES = 6
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

    @cached_property
    def sha256(self) -> str:
        """Identity of samples, labels, limits and float model: what was checked with others is checked again."""
        labels = b"" if self.samples.labels is None else self.samples.labels.tobytes()
        model = self.float_variant.sha256 if self.float_variant else ""
        told = f"{self.samples.sha256} {model} {self.limits.model_dump_json()}"
        return hashlib.sha256(told.encode() + labels).hexdigest()


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
            outputs = tuple(np.concatenate(parts) for parts in zip(*sender.outputs, strict=True))
            per_process = sender.samples_per_process
            note = " ".join(filter(None, [sender.note, _fallback_note(sender.delegation)]))
        check, accuracy = _judge(target.variant, outputs, expected, evidence)
        if not check.passed:
            failure = Failure(FailureClass.WRONG_OUTPUT, describe_failed_check(check), check.limits)
    except FailureError as error:
        failure = error.failure
    except OSError as error:  # temporary files on this host
        failure = failure_of_host(error)
    return AccuracyOutcome(check, accuracy, failure, per_process, note, "\n".join(logs), clock() - started)


def _judge(
    variant: Variant, outputs: tuple[FloatArray, ...], expected: tuple[FloatArray, ...], evidence: CheckData
) -> tuple[OutputCheck, Accuracy | None]:
    """Check and score the first samples, as many as came back."""
    count = len(outputs[0])
    samples = evidence.samples.first(count)
    check = check_outputs(
        outputs,
        [array[:count] for array in expected],
        limits_for(variant.card, evidence.limits),
        real_samples=samples.labels is not None,
    )
    check = replace(check, evidence_sha256=evidence.sha256)
    if samples.labels is None or evidence.float_variant is None:
        return check, None
    floats = evidence.reference.outputs(evidence.float_variant, evidence.samples)[0][:count]
    scores, labels = outputs[0], samples.labels
    many_classes = scores.shape[1] >= _TOP_5_FROM_CLASSES
    accuracy = Accuracy(
        samples=count,
        top1=proportion(top_k_hits(scores, labels, 1), count),
        top5=proportion(top_k_hits(scores, labels, 5), count) if many_classes else None,
        agreement=proportion(same_label_hits(scores, floats), count),
        float_top1=top_k_hits(floats, labels, 1) / count,
    )
    return check, accuracy


def _fallback_note(delegation: Delegation | None) -> str:
    """Say what ran elsewhere than asked: such samples prove nothing about the delegate."""
    if delegation is None or not delegation.fell_back:
        return ""
    if delegation.achieved != delegation.requested:
        return f"The samples ran on {delegation.achieved}, so they prove nothing about {delegation.requested}."
    nodes = f"{delegation.delegated_nodes} of {delegation.total_nodes} nodes" if delegation.total_nodes else "a part"
    return f"Only {nodes} of the samples' run was on {delegation.requested}."
