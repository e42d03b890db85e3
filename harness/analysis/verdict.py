"""What a row of the summary is worth: may it be ranked, and if not, why not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from harness.analysis.statistics import Estimate
from harness.tflite.variant import FidelityOutcome

Key = TypeVar("Key", bound=Hashable)

FEWEST_INVOCATIONS = 5
"""Fewer say nothing about spread (promise H8)."""


class Verdict(StrEnum):
    """Only `ranked` rows have a rank."""

    RANKED = "ranked"
    FAILED = "failed"
    """No invocation of the latency pass succeeded."""
    ACCURACY_LOST = "accuracy_lost"
    """The variant differs from the float model beyond the limits of its kind."""
    WRONG_OUTPUT = "wrong_output"
    """The outputs on the device differ from the host's."""
    UNRELIABLE = "unreliable"
    """Some invocations succeeded and some failed by their own fault, or they ran on different delegates."""
    FELL_BACK = "fell_back"
    """All or part ran elsewhere than asked."""
    UNPROVEN = "unproven"
    """An accelerator was asked for, and the log does not prove that it ran."""
    UNCHECKED = "unchecked"
    """The outputs were never compared with the host's, or the variant could not be compared with the float model."""
    TAMPERED = "tampered"
    """Tool or variant was changed on the device while it was measured."""
    UNCONFIRMED = "unconfirmed"
    """Tool and variant were not looked at since, such as after a kill or a lost phone."""
    INCOMPLETE = "incomplete"
    """Fewer invocations than a median needs, such as after Ctrl-C."""
    NOT_MEASURED = "not_measured"
    """Nothing was run."""
    SET_ASIDE = "set_aside"
    """The sweep was resumed under other conditions, and another row of the same name holds what counts."""


NO_LATENCY = frozenset({Verdict.FAILED, Verdict.NOT_MEASURED, Verdict.WRONG_OUTPUT, Verdict.ACCURACY_LOST})
"""Rows whose latency is compared with nothing."""


@dataclass(frozen=True)
class Facts:
    """What the verdict on one cell rests on."""

    is_cpu: bool
    """True if the CPU was asked for: then nothing can fall back."""
    fell_back: bool | None
    check_passed: bool | None
    invocations_ok: int
    invocations_failed: int
    """Failed by their own fault; a lost phone does not count."""
    has_failure: bool
    """True if anything failed, for whichever reason."""
    fidelity: str | None = None
    """The `FidelityOutcome` of the variant; None in stores from before the float model was compared."""
    is_set_aside: bool = False
    """True if the cell was measured again under other conditions."""
    is_tampered: bool = False
    """True if any process was measured with a file that is not what was pushed."""
    is_unconfirmed: bool = False
    """True if no look at tool and variant came after what was measured."""
    is_mixed: bool = False
    """True if its processes ran on different delegates."""


def judge_cell(facts: Facts) -> Verdict:
    """Return the verdict; the gravest reason against a rank comes first."""
    if facts.is_set_aside:
        return Verdict.SET_ASIDE
    if facts.is_tampered:
        return Verdict.TAMPERED
    if facts.invocations_ok == 0:
        return Verdict.FAILED if facts.has_failure else Verdict.NOT_MEASURED
    reasons = {
        Verdict.ACCURACY_LOST: facts.fidelity == FidelityOutcome.LOST,
        Verdict.WRONG_OUTPUT: facts.check_passed is False,
        Verdict.UNRELIABLE: facts.invocations_failed > 0 or (facts.is_cpu and facts.is_mixed),
        Verdict.FELL_BACK: not facts.is_cpu and facts.fell_back is True,
        Verdict.UNPROVEN: not facts.is_cpu and facts.fell_back is None,
        Verdict.UNCHECKED: facts.check_passed is None or facts.fidelity == FidelityOutcome.FAILED,
        Verdict.UNCONFIRMED: facts.is_unconfirmed,
        Verdict.INCOMPLETE: facts.invocations_ok < FEWEST_INVOCATIONS,
    }
    return next((verdict for verdict, holds in reasons.items() if holds), Verdict.RANKED)


@dataclass(frozen=True)
class Rank:
    """A place among the ranked rows of one device; `tied` where others share it."""

    place: int
    tied: bool


def rank(latencies: Mapping[Key, Estimate]) -> dict[Key, Rank]:
    """Rank by median latency, fastest first; rows that the data cannot tell apart share a place.

    A row shares the place of the group's fastest row if their intervals overlap. Overlap with the group's *fastest*
    is asked for, not with the next neighbour, since overlap is not transitive: a chain of neighbours would tie rows
    that are clearly apart. Overlap errs on the side of a tie: intervals that overlap a little may still belong to a
    real difference, but those that do not overlap never pretend one at this confidence. Places are counted as in
    sports: two firsts are followed by a third.
    """
    order = sorted(latencies, key=lambda key: latencies[key].value)
    groups: list[list[Key]] = []
    for key in order:
        if groups and latencies[key].overlaps(latencies[groups[-1][0]]):
            groups[-1].append(key)
        else:
            groups.append([key])
    ranks: dict[Key, Rank] = {}
    for group in groups:
        place = len(ranks) + 1
        ranks |= {key: Rank(place, len(group) > 1) for key in group}
    return ranks
