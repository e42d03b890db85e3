"""Send samples through the official tool on a device and bring the outputs back, as many a process as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from harness.benchmark.invocation import Delegation, InputFile, InvocationRequest
from harness.benchmark.invoke import invoke
from harness.benchmark.tool import Tool
from harness.datasets.labelled import Samples
from harness.devices.device import Device, fresh_folder
from harness.errors import DEVICE_GONE, DeviceError, Failure, FailureClass, FailureError
from harness.files import scratch_folder
from harness.tflite.tensors import (
    FloatArray,
    encode,
    file_order,
    has_batch_axis,
    output_bytes,
    sample_bytes,
    sample_shape,
    split_outputs,
)
from harness.tflite.variant import TensorType, Variant

MAX_PROCESS_BYTES = 16 * 1024 * 1024
"""Inputs of one process. The activations of as many samples are many times larger and have to fit into a phone too."""
MAX_SINGLE_SAMPLES = 50
"""Samples where each needs a process of its own."""
TIME_LIMITS = 3
"""All processes of one pass together may take as long as this many that reach their time limit."""

_SHRINK = 4
_SAME = 0.01
"""Share of the largest output by which one sample may differ alone and among others, as kernels round differently."""
_TOO_MUCH = frozenset(
    {
        FailureClass.OUT_OF_MEMORY,
        FailureClass.CRASHED,
        FailureClass.TIMEOUT,
        FailureClass.STORAGE_FULL,
        FailureClass.DELEGATE_FAILED,
    }
)
"""Classes in which fewer samples may help; anything else means that the batch cannot be resized."""


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


class Sender:
    """One pass of samples. What came back is in its fields, also after a failure."""

    def __init__(
        self, target: AccuracyTarget, samples: Samples, shapes: Sequence[tuple[int, ...]], clock: Callable[[], float]
    ) -> None:
        """`shapes` are those of one sample's outputs; `clock` returns seconds."""
        self._target = target
        self._samples = samples
        self._shapes = shapes
        self._clock = clock
        self._output_folder = f"{target.device.work_folder}/outputs"
        self._deadline = clock() + TIME_LIMITS * target.timeout_s
        self.outputs: list[tuple[FloatArray, ...]] = []
        """By process, in the order of the samples."""
        self.logs: list[str] = []
        self.delegation: Delegation | None = None
        """Of the last process."""
        self.samples_per_process = 0
        self.note = ""
        """Says so when fewer samples than planned went through one process, or in all, and why."""

    def send(self) -> None:
        """Send all samples, fewer where the device does not take them. Raises `FailureError` when none goes through."""
        with fresh_folder(self._target.device, self._output_folder):  # a phone that was lost may hold earlier outputs
            self._send_what_fits()

    def joined(self) -> tuple[FloatArray, ...]:
        """Return each output for all samples that came back."""
        return tuple(np.concatenate(parts) for parts in zip(*self.outputs, strict=True))

    def resend_if_mixed(self) -> bool:
        """Send each sample in a process of its own if several at once mix; return True if that was so.

        Several at once prove nothing about a graph that reshapes to a batch of one, as detectors do when they join the
        boxes of two scales.
        """
        if self.samples_per_process == 1:
            return False
        together = self.samples_per_process
        with fresh_folder(self._target.device, self._output_folder):
            if not self._mixes():
                return False
            self._send_all(1)
        self.samples_per_process = 1
        sent = sum(len(parts[0]) for parts in self.outputs)
        note = f"{sent} samples, one per process: with {together} at once, outputs differed from the host's."
        self.note = f"{self.note} {note}".strip()
        return True

    def _mixes(self) -> bool:
        """Return True if the first sample alone gives other outputs than together with others."""
        of_several = self.delegation
        alone = self._send_chunk([array[:1] for array in self._samples.inputs])
        self.delegation = of_several
        return any(
            not np.allclose(one[0], several[0], rtol=0, atol=_SAME * float(np.abs(one[0]).max(initial=0.0)))
            for one, several in zip(alone, self.outputs[0], strict=True)
        )

    def _send_what_fits(self) -> None:
        planned = per_process = self._most_per_process()
        reason = ""
        while True:
            try:
                self._send_all(per_process)
                break
            except FailureError as error:
                failure = error.failure
            if per_process == 1 or failure.failure_class in DEVICE_GONE or self._clock() > self._deadline:
                raise FailureError(failure)
            reason = failure.message
            per_process = max(1, per_process // _SHRINK) if failure.failure_class in _TOO_MUCH else 1
        self.samples_per_process = per_process
        if per_process < planned:
            self.note = f"{per_process} instead of {planned} samples a process: {reason}"
        sent = sum(len(parts[0]) for parts in self.outputs)
        if sent < len(self._samples):
            reason = ", for want of time" if self._clock() > self._deadline else ""
            self.note += f" {sent} of {len(self._samples)} samples in all{reason}."
        self.note = self.note.strip()

    def _most_per_process(self) -> int:
        inputs = self._target.variant.card.inputs
        if not all(map(has_batch_axis, inputs)):
            return 1
        return max(1, min(len(self._samples), MAX_PROCESS_BYTES // max(1, sum(map(sample_bytes, inputs)))))

    def _send_all(self, per_process: int) -> None:
        self.outputs.clear()
        samples = self._samples if per_process > 1 else self._samples.first(MAX_SINGLE_SAMPLES)
        for start in range(0, len(samples), per_process):
            if start and self._clock() > self._deadline:
                return
            self.outputs.append(self._send_chunk([array[start : start + per_process] for array in samples.inputs]))
            if start == 0 and per_process > 1:
                self._require_delegate_of_one()

    def _require_delegate_of_one(self) -> None:
        """Raise `fell_back` when several samples left a delegate that takes one: they would prove nothing about it."""
        several = self.delegation
        if several is None or not several.fell_back:
            return
        self._send_chunk([array[:1] for array in self._samples.inputs])
        one, self.delegation = self.delegation, several
        if one is not None and one.fell_back is False:
            message = f"With several samples a process, not all ran on {several.requested}; with one, all does."
            raise FailureError(Failure(FailureClass.FELL_BACK, message, several.reason))

    def _send_chunk(self, inputs: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        """Run one process over some samples and return its outputs. Raises `FailureError`."""
        target, card = self._target, self._target.variant.card
        count = len(inputs[0])
        output_path = f"{self._output_folder}/{uuid4().hex}"
        with scratch_folder() as folder:
            try:
                request = InvocationRequest(
                    target.variant_path,
                    target.delegate,
                    target.threads,
                    runs=1,
                    warmup_runs=0,
                    warmup_min_s=0,
                    # The tool takes inputs by their place in the file, whatever their names.
                    inputs=tuple(
                        self._push(inputs[place], card.inputs[place], folder) for place in file_order(card.inputs)
                    ),
                    output_file=output_path,
                )
                invocation = invoke(target.device, target.tool, target.tool_path, request, timeout_s=target.timeout_s)
                self.logs.append(invocation.log)
                if invocation.measurement is None:
                    raise FailureError(invocation.failure or Failure(FailureClass.INTERNAL, "No outcome."))
                self.delegation = invocation.measurement.delegation
                local_output = folder / "output"
                most_bytes = sum(output_bytes(card.outputs, self._shapes, count))
                target.device.pull(output_path, local_output, timeout_s=target.timeout_s, most_bytes=most_bytes)
                return split_outputs(local_output.read_bytes(), card.outputs, self._shapes, count)
            finally:
                _tidy(target.device, output_path)

    def _push(self, values: FloatArray, tensor: TensorType, folder: Path) -> InputFile:
        local = folder / f"input-{uuid4().hex}"
        local.write_bytes(np.ascontiguousarray(encode(values, tensor)).tobytes())
        batch = (len(values),) if has_batch_axis(tensor) else ()
        return InputFile(tensor.name, (*batch, *sample_shape(tensor)), self._target.device.push(local))


def _tidy(device: Device, path: str) -> None:
    try:
        device.remove(path)
    except DeviceError:  # the device is gone; the folder is rebuilt by the next pass
        return
