"""The op-profile tables of a log: what the time went to, by node type and node by node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.benchmark.delegates import DELEGATES
from harness.benchmark.invocation import ExecutedBy, OperatorTime, ProfiledNode
from harness.benchmark.log_lines import LogLine

_SUMMARY_TITLE, _SUMMARY_HEADER = "Summary by node type", "[Node type]"
_FIGURES = re.compile(
    r"(?P<count>\d{1,18}) (?P<avg_ms>\d+(?:\.\d+)?) (?P<avg_pct>\d+(?:\.\d+)?)% "
    r"\d+(?:\.\d+)?% -?\d+(?:\.\d+)? (?P<times_called>\d{1,18})"
)
_FIGURES_PER_ROW = 6
_RUN_ORDER_TITLE = "Run Order"
_NODE_TYPE, _AVERAGE, _TIMES_CALLED, _NAME = "[node type]", "[avg ms]", "[times called]", "[Name]"


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
    """The two summaries that the tool prints, None if the log has none, and the nodes of an inference."""

    initialization: tuple[OpProfileRow, ...] | None
    operators: tuple[OpProfileRow, ...] | None
    nodes: tuple[ProfiledNode, ...]
    has_table: bool
    """True if a table begins, even if the log ends before its summary."""


def parse_op_profile(lines: Sequence[LogLine]) -> OpProfile:
    """Read the summary tables. Builds for microcontrollers print them without titles."""
    tables: list[tuple[OpProfileRow, ...]] = []
    has_table = False
    for index, line in enumerate(lines):
        is_header = _SUMMARY_HEADER in line.text and not (index and _SUMMARY_TITLE in lines[index - 1].text)
        if is_header or _SUMMARY_TITLE in line.text:
            tables.append(tuple(_rows(_behind(lines, index + (not is_header)))))
        has_table = has_table or _NODE_TYPE in line.text
    tables = [table for table in tables if table]  # a title alone tells nothing
    initialization = next((table for table in tables if _is_initialization(table)), None)
    operators = next((table for table in reversed(tables) if not _is_initialization(table)), None)
    return OpProfile(initialization, operators, _nodes(lines), has_table)


def _behind(lines: Sequence[LogLine], start: int) -> Iterator[LogLine]:
    """Yield the lines of a table from `start` on, without an empty line between two of its rows.

    No copy is made: a log of noise may hold a title in every line.
    """
    was_empty = False
    for index in range(start, len(lines)):
        is_empty = not lines[index].text
        if is_empty and was_empty:
            return
        if not is_empty:
            yield lines[index]
        was_empty = is_empty


def _nodes(lines: Sequence[LogLine]) -> tuple[ProfiledNode, ...]:
    """Read the last run order that is not the initialisation's. Its columns are separated by tabs; eras differ."""
    nodes: tuple[ProfiledNode, ...] = ()
    for index, line in enumerate(lines[:-1]):
        if _RUN_ORDER_TITLE in line.text:
            table = _behind(lines, index + 1)
            columns = _fields(next(table, LogLine("")))
            found = tuple(_run_order(table, columns)) if _NODE_TYPE in columns else ()
            nodes = found if found and not _is_initialization(found) else nodes
    return nodes


def _run_order(lines: Iterable[LogLine], columns: Sequence[str]) -> Iterator[ProfiledNode]:
    for line in lines:
        row = dict(zip(columns, _fields(line), strict=False))
        try:
            yield ProfiledNode(row[_NODE_TYPE], row[_NAME], float(row[_AVERAGE]), int(row[_TIMES_CALLED]))
        except (KeyError, ValueError):  # the end of the table
            return


def _fields(line: LogLine) -> list[str]:
    return [field.strip() for field in line.text.strip().split("\t")]


def _rows(lines: Iterable[LogLine]) -> list[OpProfileRow]:
    rows: list[OpProfileRow] = []
    for number, line in enumerate(lines):
        if number == 0 and (_SUMMARY_HEADER in line.text or "node type," in line.text.lower()):
            continue
        # Split from the right: names hold spaces and commas, and a backtracking pattern would take hours on noise.
        parts = line.text.rsplit(None, _FIGURES_PER_ROW)
        match = _FIGURES.fullmatch(" ".join(part.rstrip(",") for part in parts[1:]))
        if not match:
            break
        rows.append(
            OpProfileRow(
                parts[0].rstrip(" \t,"),
                int(match["count"]),
                float(match["avg_ms"]),
                float(match["avg_pct"]),
                int(match["times_called"]),
            )
        )
    return rows


def _is_initialization(table: Sequence[OpProfileRow] | Sequence[ProfiledNode]) -> bool:
    """Return True if a table holds nothing but preparation; LiteRT's only one holds operators as well."""
    return all(row.node_type in ("AllocateTensors", "ModifyGraphWithDelegate") for row in table)


_INSIDE_A_DELEGATE = "Delegate/"
_US_PER_MS = 1000.0


def operator_times(nodes: Iterable[ProfiledNode]) -> tuple[OperatorTime, ...]:
    """Add up the nodes of each kind in each place, the slowest kind first.

    A delegate that does not profile its own steps is one node under the delegate's name.
    """
    totals: dict[tuple[str, ExecutedBy], tuple[int, float]] = {}
    for node in nodes:
        key = (node.node_type, _place(node))
        count, time_us = totals.get(key, (0, 0.0))
        totals[key] = (count + 1, time_us + node.avg_ms * _US_PER_MS * node.times_called)
    times = (OperatorTime(operator, place, *total) for (operator, place), total in totals.items())
    return tuple(sorted(times, key=lambda time: -time.time_us))


def _place(node: ProfiledNode) -> ExecutedBy:
    is_delegate = any(name in node.node_type for delegate in DELEGATES.values() for name in delegate.log_names)
    return ExecutedBy.DELEGATE if is_delegate or node.name.startswith(_INSIDE_A_DELEGATE) else ExecutedBy.BUILTIN
