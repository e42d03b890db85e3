"""How many rows each promise is kept for, and why not where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.promises import judge_promises, promise_titles
from harness.analysis.sweep_data import SweepData, all_evidence

_MOST_REASONS = 3


@dataclass(frozen=True)
class KeptPromise:
    """One promise over all rows of a sweep."""

    number: int
    title: str
    kept: int
    broken: int
    unknown: int
    reasons: Sequence[tuple[str, int]]
    """The most frequent sentences of the rows for which it is not kept, else of all, with their count."""

    @property
    def state(self) -> str:
        """The gravest of all rows: `broken`, `unknown` or `kept`."""
        return "broken" if self.broken else "kept" if self.kept else "unknown"


def kept_promises(data: SweepData) -> list[KeptPromise]:
    """Judge every promise for every row; an empty list where the sweep has no cells."""
    judged: dict[int, list[tuple[bool | None, str]]] = {number: [] for number in promise_titles()}
    for evidence in all_evidence(data):
        for promise in judge_promises(evidence):
            judged[promise.number].append((promise.kept, promise.sentence))
    if not data.sides:
        return []
    return [_summed(number, title, judged[number]) for number, title in sorted(promise_titles().items())]


def _summed(number: int, title: str, judged: Sequence[tuple[bool | None, str]]) -> KeptPromise:
    counts = Counter(kept for kept, _ in judged)
    gravest = False if counts[False] else True if counts[True] else None
    sentences = Counter(sentence for kept, sentence in judged if kept is gravest)
    return KeptPromise(number, title, counts[True], counts[False], counts[None], sentences.most_common(_MOST_REASONS))
