"""Outputs of variants as a delegate of a device computes them, and what it changed against the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from harness.accuracy.output_check import check_outputs, describe_failed_check, limits_for, signal_to_noise_db
from harness.accuracy.reference import HostOutputs
from harness.accuracy.sending import AccuracyTarget, Sender
from harness.benchmark.invocation import Delegation
from harness.benchmark.program import Feature, can, push_tool
from harness.benchmark.registry import ToolRegistry
from harness.benchmark.tool import Tool
from harness.datasets.labelled import Samples
from harness.devices.device import Device
from harness.errors import Failure, FailureClass, MissingPrerequisiteError
from harness.spec.limits import OutputLimits
from harness.sweep.targets import opened
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import Variant

TIMEOUT_S = 300.0
"""Of one process of the tool."""


@dataclass(frozen=True)
class DelegateChange:
    """A delegate's outputs next to those of the host's run of the same file on the same samples."""

    delegation: Delegation
    """What the log proves about what ran."""
    samples: int
    label_agreement: float | None
    """Share of samples with the same largest output; None for outputs that are no class scores."""
    signal_to_noise_db: float
    """Of the output that differs most."""
    max_abs_error: float
    wrong: str
    """What is wrong with the outputs, one sentence; empty if the check of a sweep passes (promise H14)."""
    note: str
    """Says so where fewer samples than asked for went through, and why."""


class ThroughDelegate:
    """Runs variants on one delegate of one opened device."""

    def __init__(
        self, device: Device, tool: Tool, delegate: str, reference: HostOutputs, *, clock: Callable[[], float]
    ) -> None:
        self.name = delegate
        self._device, self._tool, self._reference, self._clock = device, tool, reference, clock
        self._tool_path = push_tool(device, tool)
        self._sent: tuple[tuple[str, str], Sender] | None = None

    def outputs(self, variant: Variant, samples: Samples) -> tuple[FloatArray, ...]:
        """Return each output of the first samples, as many as the device took. Raises `FailureError`."""
        sender = self._send(variant, samples)
        return tuple(np.concatenate(parts) for parts in zip(*sender.outputs, strict=True))

    def _send(self, variant: Variant, samples: Samples) -> Sender:
        """Send samples through, unless they were the last that went."""
        key = (variant.sha256, samples.sha256)
        if self._sent and self._sent[0] == key:
            return self._sent[1]
        shapes = [array.shape[1:] for array in self._reference.outputs(variant, samples.first(1))]
        target = AccuracyTarget(
            self._device, self._tool, self._tool_path, variant, self._device.push(variant.path), self.name, 1, TIMEOUT_S
        )
        sender = Sender(target, samples, shapes, self._clock)
        sender.send()
        self._sent = key, sender
        return sender

    def change(self, variant: Variant, samples: Samples) -> DelegateChange:
        """Compare the delegate's outputs with the host's. Raises `FailureError` if one of them cannot run it."""
        outputs, sender = self.outputs(variant, samples), self._send(variant, samples)
        assert sender.delegation is not None  # noqa: S101 - it has sent something
        count = len(outputs[0])
        expected = [array[:count] for array in self._reference.outputs(variant, samples)]
        limits = limits_for(variant.card, OutputLimits())
        labelled = samples.labels is not None
        check = check_outputs(outputs, expected, limits, real_samples=labelled, scored=samples.scored)
        pairs = list(zip(outputs, expected, strict=True))
        return DelegateChange(
            delegation=sender.delegation,
            samples=count,
            label_agreement=check.label_agreement,
            signal_to_noise_db=min(signal_to_noise_db(*pair) for pair in pairs),
            max_abs_error=check.max_abs_error,
            wrong="" if check.passed else describe_failed_check(check),
            note=sender.note,
        )


@contextmanager
def through_delegates(
    device: str, delegates: Sequence[str], reference: HostOutputs, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[list[ThroughDelegate]]:
    """Open a device by serial, `virtual` or `host`, for the length of a `with` block.

    Raises `MissingPrerequisiteError` without a tool that can write outputs.
    """
    registry = ToolRegistry()
    with opened(device, registry) as phone:
        tool = registry.choose(phone.facts())
        if not can(tool, Feature.RAW_TENSORS):
            raise MissingPrerequisiteError(
                f"The tool for {device} writes no outputs.", "Add the official benchmark_model: `harness tools add`."
            )
        yield [ThroughDelegate(phone, tool, delegate, reference, clock=clock) for delegate in delegates]


def fell_back(change: DelegateChange) -> Failure | None:
    """Return what to say of a delegate that left all or a part to others; None if it did not."""
    delegation = change.delegation
    if not delegation.fell_back:
        return None
    message = f"All ran on {delegation.achieved}, so this row tells nothing of {delegation.requested}."
    if delegation.achieved == delegation.requested:
        nodes = (
            f"{delegation.delegated_nodes} of {delegation.total_nodes} nodes" if delegation.total_nodes else "a part"
        )
        message = f"Only {nodes} ran on {delegation.requested}."
    return Failure(FailureClass.FELL_BACK, message, delegation.reason)
