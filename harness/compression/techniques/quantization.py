"""Post-training quantization of a float graph."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from harness.compression.calibration import CalibrationRequest, signature_samples
from harness.compression.recipe_state import RecipeState
from harness.compression.registry import TechniqueSettings, TechniqueStage, technique
from harness.errors import CompressionError, Failure, FailureClass
from harness.spec.loading import SpecModel
from harness.tflite.flatbuffer import is_quantized, operator_scopes, read_graph
from harness.tflite.runtimes import CURRENT

if TYPE_CHECKING:
    from harness.compression.calibration import SampleSets
    from harness.compression.graph.input_moments import Moments
    from harness.compression.graph.quantizer import FormatRule
    from harness.compression.graph.ranges import Ranges
    from harness.compression.judges import Judge
    from harness.compression.weights.rounding import KnownCodes

Weights = Literal["float", "fp16", "int8", "int4", "int3"]
Activations = Literal["float", "int8", "int16"]
Granularity = Literal["channel", "tensor", "block-32", "block-64", "block-128", "block-256"]

_NOISIEST_TOLD = 8
_SMALL_SHARE = 0.01
_BYTES = {"float": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5, "int3": 0.5}


class LayerFormat(SpecModel):
    """Another format for some layers: mixed precision."""

    match: str
    """A regular expression, searched in the names of the tensors that an operator writes."""
    weights: Weights = "float"
    activations: Activations = "float"
    granularity: Granularity = "channel"


class QuantizationSettings(TechniqueSettings):
    """Number formats of a quantized graph."""

    weights: Literal["fp16", "int8", "int4", "int3"] = "int8"
    """`int3` is stored as int4."""
    activations: Activations = "float"
    io: Literal["float", "int8", "int16"] = "float"
    """Format of the graph's inputs and outputs."""
    granularity: Granularity = "channel"
    """What has a scale of its own. Blocks are for dense layers with int4 weights and float activations."""
    scale: Literal["largest", "least-error"] = "largest"
    """A weight's scale reaches the largest weight, or has the least squared error over those that are not zero."""
    rounding: Literal["nearest", "error-aware"] = "nearest"
    """`error-aware` rounds weights so that the errors of a layer's outputs cancel on the calibration data (GPTQ)."""
    keep_small_layers: bool = True
    """Layers below 8,192 weights take int8 instead of int4, and below 1,024 float instead of int8 with float
    activations: the smallest first, as long as the weights grow by at most 1 %."""
    layers: tuple[LayerFormat, ...] = ()
    """Exceptions, the last that matches counts."""
    calibration: Literal["data", "random"] = "data"
    """`random` calibrates on noise: the latency is real, the accuracy is not."""
    calibration_samples: int = Field(default=200, ge=1, le=100_000)
    ranges: Literal["best", "extremes", "mean", "error-2", "error-1.5", "midway"] = "best"
    """`extremes` cuts off no value of the samples. The others cut off inner tensors: `mean` at the means of each
    sample's extremes, `error-2` and `error-1.5` where the sum of all errors to this power is smallest, `midway` halfway
    between `mean` and `error-2`. `best` takes the one with which the outputs are nearest to the float model's on the
    samples."""
    max_drop_points: float | None = Field(default=None, gt=0, le=100)
    """Give layers their precision back, those that add most noise per byte first, until at most this many points of
    top-1 are lost; of answers, if there are no labels."""
    min_snr_db: float | None = Field(default=None, gt=0, le=100)
    """The same, until the signal to noise of every output is at least this, on calibration data."""

    @model_validator(mode="after")
    def _formats_fit(self) -> QuantizationSettings:
        every: tuple[QuantizationSettings | LayerFormat, ...] = (self, *self.layers)
        for one in every:
            if one.weights in ("fp16", "float") and one.activations != "float":
                raise ValueError(f'activations = "{one.activations}" needs integer weights')
            if one.granularity.startswith("block") and (one.weights != "int4" or one.activations != "float"):
                raise ValueError('granularity in blocks needs weights = "int4" and float activations')
        if {"int3", "int4"} <= {one.weights for one in every}:
            raise ValueError("int3 and int4 cannot be mixed: both are stored as int4, in one number of bits")
        if self.max_drop_points is not None and self.min_snr_db is not None:
            raise ValueError("max_drop_points and min_snr_db exclude each other: set the one that counts")
        if self.io not in ("float", self.activations):
            raise ValueError(f'io = "{self.io}" needs activations = "{self.io}"')
        for layer in self.layers:
            try:
                re.compile(layer.match)
            except re.error as error:
                raise ValueError(f"match = {layer.match!r} is not a regular expression ({error})") from error
        return self

    def calibration_request(self) -> CalibrationRequest | None:
        """Return which data activations or weights are fitted to; None if neither is."""
        is_needed = self.rounding == "error-aware" or self.has_integer_activations or self.min_snr_db is not None
        if not is_needed and self.max_drop_points is None:
            return None
        return CalibrationRequest(self.calibration, self.calibration_samples, is_optional=not is_needed)

    @property
    def has_budget(self) -> bool:
        """Return True if layers get their precision back until the variant is good enough."""
        return self.max_drop_points is not None or self.min_snr_db is not None

    @property
    def has_integer_activations(self) -> bool:
        """Return True if the activations of any layer need ranges."""
        return self.activations != "float" or any(layer.activations != "float" for layer in self.layers)


@technique(
    "quantization",
    QuantizationSettings,
    stage=TechniqueStage.GRAPH,
    refused_after={
        "quantization": "the weights are quantized already",
        "sparse-storage": "the quantizer does not read sparse tensors",
    },
)
def quantize(work: RecipeState, settings: QuantizationSettings) -> None:
    """Store weights, and compute, in fewer bits, without training."""
    from harness.compression.graph import quantizer

    graph = quantizer.prepare(_float_graph(work))
    _require_matches(work, graph, settings)
    samples = _samples(work, graph, settings)
    judge = _judge(work, graph, settings, samples)  # what cannot be judged is refused before anything takes time
    known: KnownCodes = {}
    int4_bits = 3 if "int3" in (settings.weights, *(layer.weights for layer in settings.layers)) else 4

    make_plainly = functools.partial(
        quantizer.quantize, newest_kernels=work.target_runtime == CURRENT, int4_bits=int4_bits
    )
    rules: Sequence[FormatRule] = [
        _rule(settings, ".*"),
        *_small_layers(work, graph, settings),
        *(_rule(layer, layer.match) for layer in settings.layers),
    ]
    made_of, ranges = graph, None
    if settings.has_integer_activations:
        made_of, ranges = _ranges(
            work, graph, settings, samples, lambda graph, ranges: make_plainly(graph, rules, ranges=ranges)
        )
    moments = _moments(work, made_of, settings, samples)

    def make(rules: Sequence[FormatRule], *, float_io: bool = True) -> bytes:
        return make_plainly(
            made_of,
            rules,
            ranges=ranges,
            float_io=float_io,
            scale=settings.scale,
            moments=moments,
            known=known,
            progress=functools.partial(work.progress, "rounding weights"),
        )

    if judge is not None:
        rules = _within_budget(work, graph, make, rules, samples, judge)
    made = make(rules, float_io=settings.io == "float")
    _require_stored(work, graph, made, settings)
    work.replace_graph(made)


def _require_stored(work: RecipeState, graph: bytes, made: bytes, settings: QuantizationSettings) -> None:
    """Check that weights have the type that was asked for, or report why none have. Raises `CompressionError`."""
    from harness.tflite.weights import weights

    wanted = {"fp16": "float16", "int3": "int4"}.get(settings.weights, settings.weights)
    found = read_graph(made, name=work.model.name).weight_types
    if wanted in found or settings.layers or settings.has_budget:
        return
    kernels = weights(graph)
    if not kernels:
        work.report(note="the model has no layer with weights: nothing to quantize")
    elif wanted == "int4" and "int8" in found:
        work.report(note=f"no layer takes int4 weights for runtime {work.target_runtime}: stored as int8")
    else:
        message = (
            f"Cannot quantize {work.model.name}: none of its {len(kernels)} layers with weights became {wanted}. "
            "Choose another recipe."
        )
        raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))


def _rule(formats: QuantizationSettings | LayerFormat, match: str) -> FormatRule:
    from harness.compression.graph.quantizer import FormatRule

    weights = "int4" if formats.weights == "int3" else formats.weights
    return FormatRule(weights, formats.activations, formats.granularity, match)


def _small_layers(work: RecipeState, graph: bytes, settings: QuantizationSettings) -> Iterator[FormatRule]:
    """Yield the rule that leaves small layers more precision, where it costs next to no bytes.

    TensorFlow's converter leaves kernels below 1,024 weights in float where activations are float.
    """
    from harness.compression.graph.quantizer import FormatRule
    from harness.tflite.weights import kernel_sizes

    finer: dict[tuple[str, str], tuple[int, Literal["float", "int8"]]] = {
        ("int8", "float"): (1024, "float"),
        ("int4", "float"): (1024, "float"),
        ("int4", "int8"): (8192, "int8"),
        ("int4", "int16"): (8192, "int8"),
    }
    limit, weights = finer.get((settings.weights, settings.activations), (0, "float"))
    sizes = kernel_sizes(graph)
    left = _SMALL_SHARE * sum(sizes.values()) * _BYTES[settings.weights]
    kept = []
    for scope, size in sorted(sizes.items(), key=itemgetter(1)):
        left -= size * (_BYTES[weights] - _BYTES[settings.weights])
        if size < limit and left >= 0 and settings.keep_small_layers:
            kept.append(scope)
    if kept:
        work.report(small_layers=f"{len(kept)} in {weights}")
        yield FormatRule(weights, settings.activations, match=f"^(?:{'|'.join(map(re.escape, kept))})$")


def _samples(work: RecipeState, graph: bytes, settings: QuantizationSettings) -> SampleSets:
    request = settings.calibration_request()
    return {} if request is None else signature_samples(work.model, graph, request)


def _ranges(
    work: RecipeState,
    graph: bytes,
    settings: QuantizationSettings,
    samples: SampleSets,
    make: Callable[[bytes, Ranges], bytes],
) -> tuple[bytes, Ranges]:
    """Return the activations' ranges by the rule of the settings, or by the one whose outputs are nearer to float.

    They come with the graph that they are for, whose masks reach no further than they need to.
    """
    from harness.compression.graph.fidelity import mean_snr_db, outputs
    from harness.compression.graph.finite_masks import with_finite_masks

    found = _measured_ranges(work, graph, samples)
    is_fine = settings.activations == "int16"  # where cutting off gains no resolution that is missing
    chosen = settings.ranges
    if chosen == "best" and (is_fine or settings.calibration == "random"):
        chosen = "extremes"
    if chosen != "best":
        return with_finite_masks(graph, found[chosen])
    nearness: dict[str, float] = {}
    wanted = outputs(graph, samples)
    candidates = {rule: with_finite_masks(graph, ranges) for rule, ranges in found.items()}
    for rule, pair in candidates.items():
        work.progress("comparing rules for ranges", len(candidates), len(nearness), rule)
        nearness[rule] = mean_snr_db(wanted, make(*pair), samples)
    best = max(nearness, key=nearness.__getitem__)
    work.report(ranges=best, ranges_snr_db={rule: round(value, 1) for rule, value in nearness.items()})
    return candidates[best]


def _measured_ranges(work: RecipeState, graph: bytes, samples: SampleSets) -> dict[str, Ranges]:
    """Return ranges by rule, which are measured once for a graph and its samples, then kept for the next recipe."""
    from harness.compression.graph.ranges import measure_ranges, ranges_file, read_ranges, write_ranges

    file = ranges_file(work.kept_folder() / "ranges", graph, samples)
    ranges = read_ranges(file)
    if ranges is None:
        ranges = measure_ranges(graph, samples, work.progress)
        write_ranges(file, ranges)
    return ranges


def _moments(work: RecipeState, graph: bytes, settings: QuantizationSettings, samples: SampleSets) -> Moments | None:
    from harness.compression.graph.input_moments import measure_input_moments

    if settings.rounding == "nearest" or settings.calibration == "random":  # noise would teach the wrong errors
        return None
    if work.keeps_clusters is not None:
        work.report(note="rounded to the nearest: error-aware rounding would tear clusters apart")
        return None
    return measure_input_moments(graph, samples, work.progress)


def _judge(work: RecipeState, graph: bytes, settings: QuantizationSettings, samples: SampleSets) -> Judge | None:
    """Return who says whether the variant is good enough, None if any is. Raises `CompressionError`."""
    from harness.compression.judges import SnrJudge, drop_judge

    if settings.max_drop_points is not None:
        return drop_judge(work, settings.max_drop_points, samples)
    return None if settings.min_snr_db is None else SnrJudge(settings.min_snr_db, graph, samples)


def _within_budget(
    work: RecipeState,
    graph: bytes,
    make: Callable[[Sequence[FormatRule]], bytes],
    rules: Sequence[FormatRule],
    samples: SampleSets,
    judge: Judge,
) -> Sequence[FormatRule]:
    """Return the rules under which the budget is kept, or nearly."""
    from harness.compression.accuracy_budget import keep_within, per_byte
    from harness.compression.graph.added_noise import SAMPLES, added_noise
    from harness.tflite.weights import kernel_sizes

    work.progress("ranking layers by the noise that they add", 1, 0, "")
    seen = samples or signature_samples(work.model, graph, CalibrationRequest("random", SAMPLES))
    noise = added_noise(graph, make(rules), seen)
    kept = keep_within(
        make,
        rules,
        per_byte(noise, kernel_sizes(graph)),
        judge,
        progress=functools.partial(work.progress, "giving layers their precision back"),
    )
    noisiest = sorted(noise.items(), key=lambda item: -item[1])[:_NOISIEST_TOLD]
    work.report(
        budget_kept=kept.verdict.within,
        **kept.verdict.facts,
        judged_on=judge.judged_on,
        reverted_layers=list(kept.reverted),
        noisiest_layers=[[layer, power] for layer, power in noisiest],
    )
    return kept.rules


def _require_matches(work: RecipeState, graph: bytes, settings: QuantizationSettings) -> None:
    scopes = operator_scopes(graph)
    for layer in settings.layers:
        if not any(re.search(layer.match, scope) for scope in scopes):
            message = (
                f"{work.model.name} has no operator whose name matches {layer.match!r}. "
                "`harness compress --show` lists them."
            )
            raise CompressionError(Failure(FailureClass.CONVERSION_FAILED, message))


def _float_graph(work: RecipeState) -> bytes:
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
