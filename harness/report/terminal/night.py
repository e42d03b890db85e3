"""What a night says, on the screen, as JSON values, and in a few words for a chat."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.analysis.history.night_check import CheckedCell, NightCheck, Trouble, trouble_sentence
from harness.analysis.result_row import ResultRow
from harness.errors import HarnessError
from harness.report.terminal.comparison import comparison_table, finding_rows
from harness.text import pluralize, printable

_MOST_LINES = 10
"""Of a summary for a chat."""


def night_screen(check: NightCheck, fail_on: Collection[Trouble]) -> RenderableType:
    """Return the comparison with the last good nights, then what is wrong, then how many cells are well."""
    compared = [cell.compared for cell in check.cells if cell.compared]
    parts: list[RenderableType] = [comparison_table(compared)] if compared else []
    for row in check.other_failures:
        parts.append(Text(printable(f"failed: {_of_row(row)}"), style="red"))
    for trouble in Trouble:
        style = "red" if trouble in fail_on else "yellow"
        for cell in check.troubled(trouble):
            parts.append(Text(printable(f"{trouble}: {_place(cell)}: {trouble_sentence(cell, trouble)}"), style=style))
    return Group(*parts, Text(headline(check), style="bold"))


def _of_row(row: ResultRow) -> str:
    return f"{row.variant or row.device or row.serial}: {row.failure_message} {row.failure_advice or ''}"


def _place(cell: CheckedCell) -> str:
    name = cell.name
    return f"{name.variant} {name.delegate} t{name.threads} on {name.serial}"


def headline(check: NightCheck) -> str:
    """Return the night in one sentence."""
    well = sum(not cell.troubles for cell in check.cells)
    parts = [f"{well} of {pluralize(len(check.cells), 'cell')} well"]
    parts += [f"{len(cells)} {trouble}" for trouble in Trouble if (cells := check.troubled(trouble))]
    if check.other_failures:
        parts.append(f"{len(check.other_failures)} devices or recipes failed")
    first = sum(cell.compared is None and not cell.is_left_out for cell in check.cells)
    if first:
        parts.append(f"{first} measured so for the first time, with nothing to compare with yet")
    return f"Night {check.sweep_id}: {', '.join(parts)}."


def night_document(check: NightCheck, fail_on: Collection[Trouble]) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        "sweep": check.sweep_id,
        "fail_on": sorted(fail_on),
        "bad": check.is_bad(fail_on),
        "headline": headline(check),
        "cells": [_cell_document(cell) for cell in check.cells],
        "other_failures": [row.as_json() for row in check.other_failures],
    }


def _cell_document(cell: CheckedCell) -> dict[str, Any]:
    return {
        **vars(cell.name),
        "troubles": {trouble.value: trouble_sentence(cell, trouble) for trouble in sorted(cell.troubles)},
        "last_good_sweep": cell.compared.a.sweep_id if cell.compared and cell.compared.a else None,
        "row": cell.side.cell.as_json(),
        "comparison": finding_rows([cell.compared])[0] if cell.compared else None,
    }


def night_message(check: NightCheck, fail_on: Collection[Trouble], exit_code: int) -> dict[str, Any]:
    """Return a short summary for a webhook; `text` is what Slack, Mattermost and others show."""
    lines = [f"{_of_row(row)}" for row in check.other_failures if Trouble.FAILED in fail_on]
    lines += [
        f"{_place(cell)}: {trouble_sentence(cell, trouble)}"
        for trouble in Trouble
        if trouble in fail_on
        for cell in check.troubled(trouble)
    ]
    shown = [printable(line) for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"and {len(lines) - _MOST_LINES} more")
    return {
        "text": "\n".join([headline(check), *shown]),
        "sweep": check.sweep_id,
        "exit_code": exit_code,
        "troubles": {trouble.value: len(check.troubled(trouble)) for trouble in Trouble},
    }


def message_of_error(error: HarnessError) -> dict[str, Any]:
    """Return the webhook's message about a night that failed or did not finish."""
    return {"text": printable(f"No night: {error} {error.advice}"), "sweep": None, "exit_code": int(error.exit_code)}
