"""Post-training quantization of a float graph."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.compression.calibration import CalibrationRequest, calibration_samples
from harness.compression.flatbuffer import is_quantized, read_graph
from harness.compression.registry import TechniqueSettings, technique
from harness.compression.runtime_check import CURRENT
from harness.compression.workpiece import Workpiece
from harness.errors import CompressionError, Failure, FailureClass


class QuantizationSettings(TechniqueSettings):
    """Number formats of a quantized graph."""

    weights: Literal["fp16", "int8"] = "int8"
    activations: Literal["float", "int8"] = "float"
    io: Literal["float", "int8"] = "float"
    """Format of the graph's inputs and outputs."""
    calibration: Literal["data", "random"] = "data"
    """`random` calibrates on noise: the latency is real, the accuracy is not."""
    calibration_samples: int = Field(default=200, ge=1, le=100_000)
    ranges: Literal["average", "extremes"] = "average"
    """What an activation's range is taken from: `average` ignores rare outliers, `extremes` never cuts off."""

    @model_validator(mode="after")
    def _formats_fit(self) -> QuantizationSettings:
        if self.weights == "fp16" and self.activations == "int8":
            raise ValueError('activations = "int8" needs weights = "int8"')
        if self.io == "int8" and self.activations == "float":
            raise ValueError('io = "int8" needs activations = "int8"')
        return self

    def calibration_request(self) -> CalibrationRequest | None:
        """Return which data the activations are calibrated on; None where they stay float."""
        if self.activations == "float":
            return None
        return CalibrationRequest(self.calibration, self.calibration_samples)


@technique("quantization", QuantizationSettings)
def quantize(work: Workpiece, settings: QuantizationSettings) -> None:
    """Store weights, and compute, in fewer bits, without training."""
    from harness.compression import quantizer

    graph = quantizer.ensure_signature(_float_graph(work))
    request = settings.calibration_request()
    samples = None if request is None else calibration_samples(work.model, graph, request)
    if settings.weights == "fp16":
        work.replace_graph(quantizer.to_fp16(graph))
    elif samples is None:
        work.replace_graph(quantizer.to_dynamic_int8(graph, newest_kernels=work.target_runtime == CURRENT))
    else:
        extremes = settings.ranges == "extremes"
        work.replace_graph(quantizer.to_static_int8(graph, samples, float_io=settings.io == "float", extremes=extremes))


def _float_graph(work: Workpiece) -> bytes:
    graph = work.graph()
    facts = read_graph(graph, name=work.model.name)
    if is_quantized(facts.weight_types):
        raise CompressionError(
            Failure(
                FailureClass.CONVERSION_FAILED,
                f"{work.model.name} is quantized already (weights: {', '.join(facts.weight_types)}): "
                "quantization starts from float weights. Use the recipe as-is.",
            )
        )
    return graph
