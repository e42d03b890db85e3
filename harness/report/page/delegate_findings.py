"""Each accelerator against the CPU, variant by variant, with what the comparison may claim."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.cell_comparison import ComparedCells, Subject, compare_cells, couple
from harness.analysis.sweep_data import SweepData
from harness.report.text import number, printable

MOST_FINDINGS = 200


@dataclass(frozen=True)
class DelegateFinding:
    """One cell of another delegate against the same variant on `cpu`; texts are as they are shown."""

    device: str
    variant: str
    delegate: str
    verdict: str
    cpu_ms: str
    delegate_ms: str
    change: str
    """Relative difference of the latency, with its 99 % interval."""
    floor: str
    why: str


def delegate_findings(data: SweepData) -> tuple[list[DelegateFinding], int]:
    """Return what differs most in front, and how many are left out."""
    on_cpu = [side for side in data.sides if side.cell["delegate_requested"] == "cpu"]
    others = [side for side in data.sides if side.cell["delegate_requested"] != "cpu"]
    couples = [
        found
        for delegate in dict.fromkeys(side.cell["delegate_requested"] for side in others)
        for found in couple(
            on_cpu, [side for side in others if side.cell["delegate_requested"] == delegate], Subject.DELEGATE
        )
        if found.a and found.b
    ]
    compared = compare_cells(couples, data.noise)
    findings = [_finding(cells) for cells in compared[:MOST_FINDINGS]]
    return findings, max(0, len(compared) - MOST_FINDINGS)


def _finding(cells: ComparedCells) -> DelegateFinding:
    estimate, floor = cells.finding.estimate, cells.finding.floor
    change = "-"
    if estimate:
        low, high = _percent(estimate.interval.low), _percent(estimate.interval.high)
        change = f"{_percent(estimate.value)} % ({low} to {high})"
    a, b = (side.cell["latency_median_us"] if side else None for side in (cells.a, cells.b))
    return DelegateFinding(
        device=printable(cells.cell["device"]),
        variant=printable(cells.cell["variant"]),
        delegate=printable(cells.cell["delegate_requested"]),
        verdict=str(cells.finding.verdict),
        cpu_ms=number(a / 1000) if a else "-",
        delegate_ms=number(b / 1000) if b else "-",
        change=change,
        floor=f"{100 * floor.value:.1f} %" if floor else "-",
        why=printable(cells.finding.why),
    )


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}".replace("-", "\N{MINUS SIGN}")
