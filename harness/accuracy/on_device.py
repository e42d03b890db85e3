"""Real inputs through a device's delegate, real outputs back, many samples in one process of the official tool."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np

from harness.accuracy.dataset import FloatArray, Samples
from harness.accuracy.metrics import proportion, same_label_hits, top_k_hits
from harness.accuracy.outcome import Accuracy, AccuracyOutcome, OutputCheck
from harness.accuracy.output_check import check_outputs, describe_failed_check, limits_for
from harness.accuracy.reference import Reference
from harness.accuracy.tensors import elements_per_sample, encode, split_outputs
from harness.benchmark.invoke import invoke
from harness.benchmark.measurement import Delegation, InputFile, InvocationRequest
from harness.benchmark.tool import Tool, ToolFamily
from harness.compression.variant import Variant
from harness.devices.base import Device
from harness.errors import DeviceError, Failure, FailureClass, FailureError

MAX_PROCESS_BYTES = 64 * 1024 * 1024
"""Inputs of one process; a phone has to hold them, and the activations of as many samples, in memory."""
MAX_SINGLE_SAMPLES = 50
"""Samples where each needs a process of its own."""
_TOO_MUCH = frozenset(
    {FailureClass.OUT_OF_MEMORY, FailureClass.CRASHED, FailureClass.TIMEOUT, FailureClass.STORAGE_FULL}
)
"""Classes in which half as many samples may help; anything else means that the batch cannot be resized."""
_DEVICE_GONE = frozenset({FailureClass.DEVICE_LOST, FailureClass.DEVICE_OFFLINE, FailureClass.DEVICE_UNAUTHORIZED})
_TOP_5_FROM_CLASSES = 6


@dataclass(frozen=True)
class Evidence:
    """What every cell of a sweep is checked with: the samples, and what the host computes from them."""

    samples: Samples
    reference: Reference
    float_variant: Variant | None
    """The float model; None where only outputs can be checked."""


@dataclass(frozen=True)
class AccuracyTarget:
    """One cell on one opened device: tool and variant by their paths there."""

    device: Device
    tool: Tool
    tool_path: str
    variant: Variant
    variant_path: str
    delegate: str
    threads: int
    timeout_s: float


@dataclass
class _Run:
    """What has come back so far."""

    outputs: list[tuple[FloatArray, ...]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    delegation: Delegation | None = None


def measure_accuracy(target: AccuracyTarget, evidence: Evidence) -> AccuracyOutcome:
    """Send the samples through, check the outputs and score them. Never raises for what the device or tool did."""
    started = time.monotonic()
    run = _Run()
    per_process, note, failure = 0, "", None
    check: OutputCheck | None = None
    accuracy: Accuracy | None = None
    try:
        if target.tool.family is ToolFamily.LITERT_PYTHON:
            samples, per_process = evidence.samples, len(evidence.samples)
            run.outputs.append(evidence.reference.outputs(target.variant, samples, threads=target.threads))
            note = "Outputs are the interpreter's of the same runtime: this benchmark gives none of its own."
        else:
            samples, per_process, note = _send(target, evidence.samples, run)
        outputs = tuple(np.concatenate(parts) for parts in zip(*run.outputs, strict=True))
        check, accuracy = _judge(target.variant, outputs, samples, evidence)
        if not check.passed:
            failure = Failure(FailureClass.WRONG_OUTPUT, describe_failed_check(check), check.limits)
        note = " ".join(filter(None, [note, _fallback_note(run.delegation)]))
    except FailureError as error:
        failure = error.failure
    return AccuracyOutcome(check, accuracy, failure, per_process, note, "\n".join(run.logs), time.monotonic() - started)


def _send(target: AccuracyTarget, samples: Samples, run: _Run) -> tuple[Samples, int, str]:
    """Send samples, as many a process as the device takes; return those sent, the number a process, and a note."""
    planned = per_process = _samples_per_process(target.variant, len(samples))
    while True:
        run.outputs.clear()
        try:
            chosen = samples if per_process > 1 else samples.first(MAX_SINGLE_SAMPLES)
            for start in range(0, len(chosen), per_process):
                _send_chunk(target, [array[start : start + per_process] for array in chosen.inputs], run)
        except FailureError as error:
            if per_process == 1 or error.failure.failure_class in _DEVICE_GONE:
                raise
            reason = error.failure.message
            per_process = per_process // 2 if error.failure.failure_class in _TOO_MUCH else 1
        else:
            break
    if per_process == planned:
        return chosen, per_process, ""
    return chosen, per_process, f"{per_process} instead of {planned} samples a process, {len(chosen)} in all: {reason}"


def _samples_per_process(variant: Variant, samples: int) -> int:
    size = sum(elements_per_sample(tensor) * np.dtype(tensor.type).itemsize for tensor in variant.card.inputs)
    return max(1, min(samples, MAX_PROCESS_BYTES // max(1, size)))


def _send_chunk(target: AccuracyTarget, inputs: Sequence[FloatArray], run: _Run) -> None:
    """Run one process over one chunk of samples. Raises `FailureError`."""
    device, card = target.device, target.variant.card
    count = len(inputs[0])
    output_path = f"{device.work_folder}/output-{uuid4().hex}"
    files: list[InputFile] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for index, (values, tensor) in enumerate(zip(inputs, card.inputs, strict=True)):
                local = Path(folder, f"input-{index}")
                local.write_bytes(np.ascontiguousarray(encode(values, tensor)).tobytes())
                shape = (count, *(max(1, size) for size in tensor.shape[1:]))
                files.append(InputFile(tensor.name, shape, device.push(local)))
            request = InvocationRequest(
                target.variant_path, target.delegate, target.threads, runs=1, warmup_runs=0, warmup_min_s=0,
                inputs=tuple(files), output_file=output_path,
            )  # fmt: skip
            invocation = invoke(device, target.tool, target.tool_path, request, timeout_s=target.timeout_s)
            run.logs.append(invocation.log)
            if invocation.measurement is None:
                raise FailureError(invocation.failure or Failure(FailureClass.INTERNAL, "No outcome."))
            run.delegation = invocation.measurement.delegation
            local_output = Path(folder, "output")
            device.pull(output_path, local_output, timeout_s=target.timeout_s)
            run.outputs.append(split_outputs(local_output.read_bytes(), card.outputs, count))
        finally:
            _tidy(device, [output_path])


def _tidy(device: Device, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            device.remove(path)
        except DeviceError:  # the device is gone, and with it the sweep on it; the work folder is cleaned next time
            return


def _judge(
    variant: Variant, outputs: tuple[FloatArray, ...], samples: Samples, evidence: Evidence
) -> tuple[OutputCheck, Accuracy | None]:
    expected = evidence.reference.outputs(variant, evidence.samples)
    check = check_outputs(
        outputs,
        [array[: len(samples)] for array in expected],
        limits_for(variant.card),
        real_samples=samples.labels is not None,
    )
    if samples.labels is None or evidence.float_variant is None:
        return check, None
    floats = evidence.reference.outputs(evidence.float_variant, evidence.samples)[0][: len(samples)]
    scores, labels, count = outputs[0], samples.labels, len(samples)
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
    if delegation is None or not delegation.fell_back:
        return ""
    return f"The samples ran (partly) on {delegation.achieved}, so they prove nothing about {delegation.requested}."
