"""What real inputs through a device's delegate gave."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import Failure


@dataclass(frozen=True)
class Proportion:
    """A share of samples between 0 and 1 with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OutputCheck:
    """The delegate's outputs against the host's run of the same file on the same inputs (promise H14)."""

    samples: int
    cosine_min: float
    """Smallest cosine between a sample's outputs here and on the host."""
    max_abs_error: float
    label_agreement: float | None
    """Share of samples with the same largest output; None for models without classes."""
    all_zero: bool
    not_finite: bool
    passed: bool
    limits: str
    """The limits that were applied, as one sentence."""
    evidence_sha256: str | None = None
    """Identity of the samples, labels, limits and float model that it was made with; None in older rows."""


@dataclass(frozen=True)
class Accuracy:
    """Labelled samples through the device. `agreement` is with the float model on the host, sample by sample."""

    samples: int
    top1: Proportion
    top5: Proportion | None
    """None for fewer than six classes."""
    agreement: Proportion
    float_top1: float
    """Top-1 of the float model on the same samples, so that a drop is a paired difference."""


@dataclass(frozen=True)
class AccuracyOutcome:
    """All that the accuracy pass of one cell found. A failure may stand next to what was measured (`wrong_output`)."""

    check: OutputCheck | None
    accuracy: Accuracy | None
    failure: Failure | None
    samples_per_process: int
    note: str
    """Says so when fewer samples than planned went through one process, and why."""
    log: str
    """Raw logs of the processes, for the results folder."""
    wall_s: float
