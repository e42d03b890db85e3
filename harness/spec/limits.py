"""How far a delegate's outputs may be from the host's run of the same file, by type of variant (promise H14)."""

from __future__ import annotations

from pydantic import Field

from harness.spec.loading import SpecModel


class Limits(SpecModel):
    """Limits for one type of variant. docs/accuracy.md has the figures that the defaults come from."""

    cosine_min: float = Field(ge=-1, le=1)
    """Between a sample's outputs here and on the host; nearly all samples must keep it."""
    max_relative_error: float = Field(ge=0)
    """Largest difference relative to the largest number of the host's outputs; nearly all samples must keep it."""
    label_agreement_min: float = Field(ge=0, le=1)
    """Share of real samples with the same largest class; random inputs have no class to agree on."""


class FloatLimits(Limits):
    """A GPU that computes in 16 bits was seen 0.0058 away in class probabilities; garbage is further by far."""

    cosine_min: float = Field(default=0.99, ge=-1, le=1)
    max_relative_error: float = Field(default=0.05, ge=0)
    label_agreement_min: float = Field(default=0.95, ge=0, le=1)


class QuantizedLimits(Limits):
    """Correct kernels that quantize in other places were seen at 0.978, 0.11 and 0.98; garbage at 0.34, 0.9, 0.10."""

    cosine_min: float = Field(default=0.90, ge=-1, le=1)
    max_relative_error: float = Field(default=0.25, ge=0)
    label_agreement_min: float = Field(default=0.90, ge=0, le=1)


class OutputLimits(SpecModel):
    """The limits of a sweep; a key that is not given keeps its default."""

    floating: FloatLimits = FloatLimits()
    """Variants without quantized tensors."""
    quantized: QuantizedLimits = QuantizedLimits()
    """Variants with any weight, input or output of 16 bits or fewer in whole numbers."""
