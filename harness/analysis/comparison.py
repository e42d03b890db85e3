"""Say of two sets of invocations whether one is faster: the decision rule, on plain numbers.

A difference is called one only if all three hold:

1. its p-value, corrected for the number of comparisons, is at most 1 % (exact ranks over invocations);
2. it is at least the smallest effect that matters, 2 % unless another is asked for, also by the two medians printed;
3. it is above the device's noise floor.

Corrected after Benjamini and Hochberg (1995), not Holm: where nothing changed at all, both raise any false alarm in at
most 1 % of the comparisons, which is what a gate in CI needs; where something did change, Holm would also keep every
other row free of error and pays for it with power that 5 to 20 invocations do not have, while Benjamini and Hochberg
keep the share of false ones among all that is called a difference at 1 %. Rows of one sweep move together, under which
the bound still holds (Benjamini and Yekutieli 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from harness.analysis.noise_floor import NoiseFloor
from harness.analysis.ratio import RatioEstimate, estimate_by_mean, estimate_by_rank, smallest_p
from harness.analysis.verdict import FEWEST_INVOCATIONS

FALSE_ALARMS = 0.01
SMALLEST_EFFECT = 0.02


class FindingVerdict(StrEnum):
    """What a comparison says of B."""

    SLOWER = "slower"
    REFUSED = "refused"
    """The two are not alike, or one of them is no measurement."""
    INCONCLUSIVE = "inconclusive"
    """The data can neither show a difference nor rule one out."""
    FASTER = "faster"
    SAME = "same"
    """Whatever differs is smaller than what matters."""


@dataclass(frozen=True)
class LatencySamples:
    """Latencies of the invocations of two cells, in any one unit; where `paired`, the i-th of both are of one block."""

    a: Sequence[float]
    b: Sequence[float]
    paired: bool
    floor: NoiseFloor | None = None
    of_medians: float | None = None
    """Ratio of the printed medians, if they are of more invocations than these: a pair may lack one side."""


@dataclass(frozen=True)
class Finding:
    """What a comparison says, and on what ground."""

    verdict: FindingVerdict
    why: str
    """One sentence."""
    estimate: RatioEstimate | None = None
    corrected_p: float | None = None
    floor: NoiseFloor | None = None


def compare(
    comparisons: Sequence[LatencySamples], *, effect: float = SMALLEST_EFFECT, false_alarms: float = FALSE_ALARMS
) -> list[Finding]:
    """Judge several comparisons at once, each with a finding in the same place.

    `effect` is the smallest relative difference that matters; `false_alarms` the share that may be wrong.
    """
    enough = [samples for samples in comparisons if _fewest(samples) >= FEWEST_INVOCATIONS]
    estimates = [_estimate(samples, len(enough), false_alarms) for samples in enough]
    corrected = correct([estimate.p_value for estimate in estimates])
    judged = iter(
        _judge(estimate, p_value, samples.floor, effect, false_alarms)
        for samples, estimate, p_value in zip(enough, estimates, corrected, strict=True)
    )
    return [next(judged) if _fewest(samples) >= FEWEST_INVOCATIONS else _too_few(samples) for samples in comparisons]


def correct(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected after Benjamini and Hochberg, in the same order."""
    if not p_values:
        return []
    ordered = np.argsort(p_values)[::-1]  # the largest first: no corrected one exceeds what a larger one became
    ranks = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[ordered] = np.minimum.accumulate(np.asarray(p_values)[ordered] * len(p_values) / ranks)
    return [min(1.0, float(value)) for value in corrected]


def _fewest(samples: LatencySamples) -> int:
    return min(len(samples.a), len(samples.b))


def _too_few(samples: LatencySamples) -> Finding:
    what = "pairs" if samples.paired else "invocations"
    why = f"{_fewest(samples)} {what} are too few; {FEWEST_INVOCATIONS} are the least that show a spread."
    return Finding(FindingVerdict.INCONCLUSIVE, why, floor=samples.floor)


def _estimate(samples: LatencySamples, comparisons: int, false_alarms: float) -> RatioEstimate:
    """Use ranks where they could pass the correction at all: a choice by counts alone, never by the values."""
    finest = smallest_p(len(samples.a), len(samples.b), paired=samples.paired)
    method = estimate_by_rank if finest * comparisons <= false_alarms else estimate_by_mean
    estimate = method(samples.a, samples.b, paired=samples.paired, level=false_alarms)
    if samples.of_medians is not None:
        estimate = replace(estimate, of_medians=samples.of_medians)
    # What moved a whole sweep is not in the spread of its invocations: the interval must reach as far as the floor.
    return estimate if samples.paired or samples.floor is None else estimate.widened(samples.floor.value)


def _judge(
    estimate: RatioEstimate, corrected_p: float, floor: NoiseFloor | None, effect: float, false_alarms: float
) -> Finding:
    distance, printed = _distance(estimate.value), _distance(estimate.of_medians)
    agree = (estimate.value > 1) == (estimate.of_medians > 1) and printed >= effect
    certain = corrected_p <= false_alarms

    def found(verdict: FindingVerdict, why: str) -> Finding:
        return Finding(verdict, why, estimate, corrected_p, floor)

    if certain and agree and distance >= effect and (floor is None or distance >= floor.value):
        verdict = FindingVerdict.SLOWER if estimate.value > 1 else FindingVerdict.FASTER
        return found(verdict, f"Chance alone would show it once in {_odds(corrected_p)} comparisons.")
    least, most = 1 / (1 + effect), 1 + effect
    if estimate.inner.lies_within(least, most) and least <= estimate.of_medians <= most:
        return found(FindingVerdict.SAME, f"A difference of {effect:.1%} or more is ruled out.")
    return found(FindingVerdict.INCONCLUSIVE, _what_is_open(certain, distance, floor, effect))


def _distance(ratio: float) -> float:
    """Return how far a ratio is from 1, the same for its inverse: what A loses to B, B gains on A."""
    return max(ratio, 1 / ratio) - 1


def _what_is_open(certain: bool, distance: float, floor: NoiseFloor | None, effect: float) -> str:
    if floor is not None and floor.value > max(effect, distance):
        if certain:
            return f"Under the noise floor of {floor.value:.1%}: {floor.source}."
        return f"Differences below the noise floor of {floor.value:.1%} cannot be detected; {effect:.1%} was asked for."
    if certain:
        return f"There is a difference, but it may be under {effect:.1%}."
    return "Run more invocations: neither a difference nor its absence is shown."


def _odds(p_value: float) -> str:
    return f"{1 / p_value:,.0f}" if p_value > 1e-6 else "a million or more"  # noqa: PLR2004
