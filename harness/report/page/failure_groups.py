"""What failed, grouped by class and sentence, with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.sweep_data import SweepData
from harness.report.text import printable

MOST_PLACES = 12
MOST_GROUPS = 60


@dataclass(frozen=True)
class FailureGroup:
    """Rows that failed alike."""

    failure_class: str
    message: str
    advice: str
    evidence: str
    """The lines that prove it, of the first row."""
    places: Sequence[str]
    more: int
    """Places that are not named."""


def failure_groups(data: SweepData) -> tuple[list[FailureGroup], int]:
    """Return the groups, the one with most rows first, and how many groups are left out."""
    rows: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for row in data.rows:
        if row["failure_class"] is not None:
            key = (row["failure_class"], printable(row["failure_message"] or ""))
            names = [data.name_of(row) if row["delegate_requested"] else row["variant"], row["device"] or row["serial"]]
            place = ", ".join(printable(name) for name in names if name is not None)
            rows.setdefault(key, []).append((place, row["failure_advice"] or "", row["failure_evidence"] or ""))
    groups = []
    for (failure_class, message), failed in sorted(rows.items(), key=lambda item: -len(item[1])):
        places = list(dict.fromkeys(place for place, _, _ in failed))
        _, advice, evidence = failed[0]
        groups.append(FailureGroup(failure_class, message, advice, evidence, places[:MOST_PLACES],
                                   max(0, len(places) - MOST_PLACES)))  # fmt: skip
    return groups[:MOST_GROUPS], max(0, len(groups) - MOST_GROUPS)
