"""The op-profile tables of a log: what the time went to, by node type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.benchmark.log_text import LogLine

_SUMMARY_TITLE = "Summary by node type"
_ROW = re.compile(
    r"^(?P<node_type>\S.*?)\s*[\t,]?\s+(?P<count>\d+),?\s+(?P<avg_ms>\d+(?:\.\d+)?),?\s+(?P<avg_pct>\d+(?:\.\d+)?)%,?"
    r"\s+\d+(?:\.\d+)?%,?\s+-?\d+(?:\.\d+)?,?\s+(?P<times_called>\d+),?$"
)


@dataclass(frozen=True)
class OpProfileRow:
    """One node type: how many nodes, their time together in ms and in percent of all, calls in one inference."""

    node_type: str
    count: int
    avg_ms: float
    avg_pct: float
    times_called: int


@dataclass(frozen=True)
class OpProfile:
    """The two summaries that the tool prints; None where the log has none."""

    initialization: tuple[OpProfileRow, ...] | None
    operators: tuple[OpProfileRow, ...] | None


def parse_op_profile(lines: Sequence[LogLine]) -> OpProfile:
    """Read the summary tables. Where only one is there, its node types tell which of the two it is."""
    tables: list[tuple[OpProfileRow, ...]] = []
    for index, line in enumerate(lines):
        if _SUMMARY_TITLE in line.text:
            tables.append(tuple(_rows(lines[index + 1 :])))
    initialization = next((table for table in tables if _is_initialization(table)), None)
    operators = next((table for table in reversed(tables) if not _is_initialization(table)), None)
    return OpProfile(initialization, operators)


def _rows(lines: Sequence[LogLine]) -> list[OpProfileRow]:
    rows: list[OpProfileRow] = []
    for line in lines:
        if "[Node type]" in line.text or "node type," in line.text.lower():
            continue
        match = _ROW.match(line.text)
        if not match:
            break
        rows.append(
            OpProfileRow(
                match["node_type"],
                int(match["count"]),
                float(match["avg_ms"]),
                float(match["avg_pct"]),
                int(match["times_called"]),
            )
        )
    return rows


def _is_initialization(table: Sequence[OpProfileRow]) -> bool:
    return any(row.node_type in ("AllocateTensors", "ModifyGraphWithDelegate") for row in table)
