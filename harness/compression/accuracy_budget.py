"""Give layers back their precision, those that add most noise per byte first, until a budget is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.compression.graph.quantizer import FormatRule
from harness.compression.judges import Judge, Judgement

_LAYER_BYTES = 1024
"""What a layer in another format takes besides its weights: operators and tensors that convert."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Kept:
    """What the search ended with."""

    rules: tuple[FormatRule, ...]
    verdict: Judgement
    """If no number of reverted layers keeps the budget, that of the best graph that was found."""
    reverted: tuple[str, ...]
    """Layers that got their precision back, in the order of the search."""


def keep_within(
    quantize: Callable[[Sequence[FormatRule]], bytes],
    rules: Sequence[FormatRule],
    order: Sequence[str],
    judge: Judge,
    *,
    progress: Progress,
) -> Kept:
    """Search the fewest layers to revert, the first of `order` first, that keep the budget; bisect over their number.

    Layers are scopes of operators. One goes from int4 to int8 first where that is enough, else to float.
    """
    full = tuple(rules)
    tried: dict[tuple[int, str], tuple[tuple[FormatRule, ...], Judgement]] = {}
    most = len(_ladder(full)) * (2 + math.ceil(math.log2(max(2, len(order)))))

    def attempt(precision: str, count: int) -> Judgement:
        if (count, precision) not in tried:
            chosen = (*full, *(_reverted(full, layer, precision) for layer in order[:count]))
            verdict = judge.verdict(quantize(chosen))
            tried[count, precision] = chosen, verdict
            progress(most, len(tried), f"{count} layers back to {precision}: {verdict.words}")
        return tried[count, precision][1]

    def keeps(precision: str, count: int) -> bool:
        return attempt(precision, count).within

    def is_as_good(precision: str, least: float, count: int) -> bool:
        return attempt(precision, count).loss <= least

    for precision in _ladder(full):
        count = _fewest(len(order), partial(keeps, precision))
        if count is not None:
            chosen, verdict = tried[count, precision]
            return Kept(chosen, verdict, tuple(order[:count]))
    # Out of reach, if only because a few samples prove little: the fewest layers that lose no more than the best.
    least = min(verdict.loss for _, verdict in tried.values())
    precision = next(one for one in _ladder(full) if is_as_good(one, least, len(order)))
    count = _fewest(len(order), partial(is_as_good, precision, least))
    assert count is not None  # noqa: S101 - all of them are as good
    chosen, verdict = tried[count, precision]
    return Kept(chosen, verdict, tuple(order[:count]))


def per_byte(noise: Mapping[str, float], weights: Mapping[str, int]) -> list[str]:
    """Return the layers in the order in which precision buys most: noise that goes, by bytes that come.

    `noise` is what each layer adds, `weights` how many it has; reverting one without weights costs other bytes.
    """
    return sorted(noise, key=lambda layer: -noise[layer] / (_LAYER_BYTES + weights.get(layer, 0)))


def _reverted(rules: tuple[FormatRule, ...], layer: str, precision: str) -> FormatRule:
    match = f"^{re.escape(layer)}$"
    if precision == "float":
        return FormatRule("float", match=match)
    last = next(rule for rule in reversed(rules) if re.search(rule.match, layer))
    return FormatRule("int8" if last.weights == "int4" else last.weights, last.activations, match=match)


def _ladder(rules: tuple[FormatRule, ...]) -> tuple[str, ...]:
    return ("int8", "float") if any(rule.weights == "int4" for rule in rules) else ("float",)


def _fewest(most: int, keeps: Callable[[int], bool]) -> int | None:
    """Return the smallest number that keeps the budget, taking for granted that more layers never hurt."""
    if keeps(0):
        return 0
    if not most or not keeps(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high
