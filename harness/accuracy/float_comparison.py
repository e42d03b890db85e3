"""Whether a variant still computes what the float model computes, output by output, on this host (promise H23)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.accuracy.float_limits import LIMITS, MOST_DROP_POINTS, FidelityLimits, VariantKind, kind_of
from harness.accuracy.output_check import decibels, top_k_hits
from harness.accuracy.reference import HostOutputs
from harness.datasets.comparison import ComparisonInputs, InputKind, comparison_inputs, noise
from harness.datasets.labelled import class_scores
from harness.errors import FailureError
from harness.progress import Observer, SilentObserver
from harness.spec.model import ModelSpec
from harness.tflite.tensors import FloatArray
from harness.tflite.variant import FidelityOutcome, OutputFidelity, TensorType, Variant, VariantFidelity

Values = NDArray[np.float64]

NEAR_TIE = 0.05
"""An answer that the float model scores this near to its own, of its largest difference, is as good."""
_VARIES = 0.5
"""An output that varies by less than this share of its size is nearly constant: its range says nothing."""
_MOST_CHANNELS = 256
_NUMBERS = frozenset({"bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}) | {
    "float16",
    "float32",
    "float64",
}


class FloatComparer:
    """Compares variants of one model with its float model; outputs on this host are cached by content."""

    def __init__(
        self,
        model: ModelSpec,
        floats: Variant | None,
        reference: HostOutputs,
        inputs: ComparisonInputs | None = None,
        *,
        observer: Observer | None = None,
    ) -> None:
        """`floats` is None for a model that has no float variant; `inputs` are by default the model's own, or noise.

        `observer` sees which variant is compared: one of a large network can take minutes.
        """
        self._model, self._floats, self._reference = model, floats, reference
        self._observer = observer or SilentObserver()
        self._inputs = inputs or (comparison_inputs(model, floats) if floats else None)

    def compared(self, variant: Variant) -> Variant:
        """Return the variant with the comparison in its card."""
        bar = f"{variant.name}: comparing with the float model"
        self._observer.begin(bar, 1)
        try:
            fidelity = self._fidelity(variant)
        finally:
            self._observer.end(bar)
        return Variant(variant.path, variant.card.model_copy(update={"fidelity": fidelity}))

    def _fidelity(self, variant: Variant) -> VariantFidelity:
        floats, inputs = self._floats, self._inputs
        if floats is None or inputs is None:
            return VariantFidelity(outcome=FidelityOutcome.NO_FLOAT_MODEL, reason="not compared: no float model")
        if inputs.kind is InputKind.RANDOM and (variant.card.calibration or "").startswith(InputKind.RANDOM):
            inputs = noise(self._model, floats, like_calibration=True)
        kind = kind_of(variant.card)
        known = VariantFidelity(
            outcome=FidelityOutcome.FAILED,
            inputs=inputs.kind,
            samples=len(inputs.samples),
            kind=kind,
            limits=str(LIMITS[kind]),
            float_sha256=floats.sha256,
            inputs_sha256=inputs.samples.sha256,
        )
        if text := [one for one in (*floats.card.inputs, *floats.card.outputs) if one.type not in _NUMBERS]:
            return known.model_copy(update={"reason": f"not compared: {text[0].title!r} holds no numbers"})
        try:
            exact = self._reference.outputs(floats, inputs.samples)
            found = self._reference.outputs(variant, inputs.samples)
        except (FailureError, OSError, ValueError) as error:  # also a full disk, or other inputs than the float model's
            return known.model_copy(update={"reason": f"not compared: {error}"})
        outputs = tuple(_judged(variant, floats, found, exact, inputs))
        lost = [f"{one.name}: {one.lost}" for one in outputs if one.lost]
        outcome = FidelityOutcome.LOST if lost else FidelityOutcome.KEPT
        return known.model_copy(update={"outcome": outcome, "reason": "; ".join(lost), "outputs": outputs})


def _judged(
    variant: Variant,
    floats: Variant,
    found: Sequence[FloatArray],
    exact: Sequence[FloatArray],
    inputs: ComparisonInputs,
) -> Iterator[OutputFidelity]:
    """Yield each output of the float model, by name in both if all names agree, else by place."""
    names, own_names = ([tensor.title for tensor in one.card.outputs] for one in (floats, variant))
    by_name = sorted(names) == sorted(own_names) and len(set(names)) == len(names)
    places = [own_names.index(name) for name in names] if by_name else range(len(own_names))
    if len(own_names) != len(names):
        yield OutputFidelity(name="outputs", lost=f"{len(own_names)} instead of {len(names)}")
        return
    kind = kind_of(variant.card)
    for index, (tensor, place) in enumerate(zip(floats.card.outputs, places, strict=True)):
        labels = inputs.samples.labels if index == inputs.samples.scored else None
        yield _OutputPair(tensor, found[place], exact[index], labels).judged(kind, inputs.kind)


@dataclass(frozen=True)
class _OutputPair:
    """One output of both, over all samples."""

    tensor: TensorType
    found: FloatArray
    exact: FloatArray
    labels: NDArray[np.int64] | None

    def judged(self, kind: VariantKind, inputs: InputKind) -> OutputFidelity:
        """Return the figures, and what of them is beyond the limits of this kind."""
        name = self.tensor.title
        if self.found.shape != self.exact.shape:
            shapes = f"shape {self.found.shape[1:]} instead of {self.exact.shape[1:]}"
            return OutputFidelity(name=name, lost=shapes)
        known = np.isfinite(self.exact)
        if not known.any():  # no value at all, or none that could be kept
            return OutputFidelity(name=name)
        if not np.isfinite(self.found[known]).all():
            return OutputFidelity(
                name=name, snr_db=float(decibels(np.ones(1), np.full(1, np.inf))[0]), lost="not finite"
            )
        exact, found = (np.where(known, array, 0).astype(np.float64) for array in (self.exact, self.found))
        equal, is_answer = self._equal_answers(exact, found)
        agreement = None if equal is None else float(equal.mean())
        if self._is_whole:
            figures = OutputFidelity(name=name, agreement=agreement)
        else:
            figures = OutputFidelity(
                name=name,
                snr_db=_snr_db(found, exact),
                cosine=_cosine(found, exact),
                range_kept=_range_kept(found[known], exact[known]),
                agreement=agreement,
            )
        # Noise is a question for whole numbers alone, of which nothing else can be said.
        is_asked = is_answer and (self._is_whole or inputs is not InputKind.RANDOM)
        answers = equal.size if equal is not None and is_asked else 0
        lost = self._beyond(LIMITS[kind], figures, found, exact, answers=answers)
        # Noise is no input on which another model must agree, and right answers need not be the same ones.
        excused = kind is VariantKind.CHANGED and (inputs is InputKind.RANDOM or self._keeps_top1())
        return figures if excused else figures.model_copy(update={"lost": ", ".join(lost)})

    @property
    def _is_whole(self) -> bool:
        return np.dtype(self.tensor.type).kind in "iub" and not self.tensor.scale

    def _equal_answers(self, exact: Values, found: Values) -> tuple[NDArray[np.bool_] | None, bool]:
        """Return where answers are equal, None if there are none, and whether answers are what the output is for."""
        if self._is_whole:
            return exact == found, True
        if exact.ndim == 1:  # one number per sample, without an axis of its own
            exact, found = exact[:, None], found[:, None]
        low, high = exact.min(), exact.max()
        if exact.shape[-1] == 1:
            is_sigmoid = bool(low >= 0 and high <= 1)
            middle = 0.5 if is_sigmoid else 0.0
            near = np.abs(exact - middle) <= NEAR_TIE * (1 if is_sigmoid else high - low)
            return ((exact > middle) == (found > middle)) | near, is_sigmoid or self.labels is not None
        is_shares = bool(low >= 0 and np.abs(exact.sum(axis=-1) - 1).max() < NEAR_TIE)
        if not is_shares and self.labels is None:
            return None, False
        chosen = np.take_along_axis(exact, found.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        return exact.max(axis=-1) - chosen <= NEAR_TIE * (1 if is_shares else high - low), True

    def _beyond(
        self, limits: FidelityLimits, figures: OutputFidelity, found: Values, exact: Values, *, answers: int
    ) -> list[str]:
        lost = []
        if limits.snr_db is not None and figures.snr_db is not None:
            channel, worst_db = _worst_channel(found, exact)
            if figures.snr_db < limits.snr_db:
                lost.append(f"signal to noise {figures.snr_db:.1f} dB (at least {limits.snr_db:g})")
            elif worst_db < limits.snr_db and not answers:
                lost.append(f"signal to noise of channel {channel} {worst_db:.1f} dB (at least {limits.snr_db:g})")
        if limits.cosine is not None and not answers and figures.cosine is not None and figures.cosine < limits.cosine:
            lost.append(f"cosine {figures.cosine:.3f} (at least {limits.cosine:g})")
        varies = np.ptp(exact) >= _VARIES * np.abs(exact).max()
        if varies and figures.range_kept is not None and figures.range_kept < limits.range_kept:
            lost.append(f"{figures.range_kept:.0%} of the range kept (at least {limits.range_kept:.0%})")
        # One answer may always differ: a handful cannot show a share of 80 %.
        if answers and figures.agreement is not None:
            differ = round(answers * (1 - figures.agreement))
            if differ > max(1, int(answers * (1 - limits.agreement))):
                lost.append(f"{figures.agreement:.1%} equal answers (at least {limits.agreement:.0%})")
        return lost

    def _keeps_top1(self) -> bool:
        if self.labels is None:
            return False
        floats = class_scores(self.exact)
        hits, float_hits = (top_k_hits(one, self.labels, 1) for one in (class_scores(self.found, self.exact), floats))
        return 100 * (float_hits - hits) <= MOST_DROP_POINTS * len(self.labels)


def _snr_db(found: Values, exact: Values) -> float:
    """Return signal to noise over all values; an output of zeros counts as one of ones, as there is no other scale."""
    signal = np.square(exact).sum() or float(exact.size)
    return float(decibels(np.array([signal]), np.array([np.square(found - exact).sum()]))[0])


def _worst_channel(found: Values, exact: Values) -> tuple[int, float]:
    """Return the channel with the least signal to noise; its signal counts as at least the mean channel's."""
    channels = exact.shape[-1] if exact.ndim > 1 else 1
    if channels > _MOST_CHANNELS:
        return 0, np.inf
    axes = tuple(range(exact.ndim - 1))
    signal, error = (np.square(values).sum(axis=axes) for values in (exact, found - exact))
    ratios = decibels(np.maximum(signal, signal.mean() or 1.0), error)
    return int(ratios.argmin()), float(ratios.min())


def _cosine(found: Values, exact: Values) -> float | None:
    lengths = float(np.linalg.norm(found) * np.linalg.norm(exact))
    return None if not exact.any() else float((found * exact).sum() / lengths) if lengths else 0.0


def _range_kept(found: Values, exact: Values) -> float | None:
    low, high = float(exact.min()), float(exact.max())
    if high == low:
        return None
    kept = min(high, float(found.max())) - max(low, float(found.min()))
    return max(0.0, kept) / (high - low)
