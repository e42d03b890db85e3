"""What a partition gives, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal

from harness.benchmark.delegates import find_delegate
from harness.report.terminal.fitting import FittedTable, FittingColumn, FittingRow, Section
from harness.text import number, printable

if TYPE_CHECKING:
    from harness.partition.costs import MeasuredPieces
    from harness.partition.experiment import Experiment
    from harness.partition.partition import Partition
    from harness.partition.trial import Outcome

_MISSING = "-"
_MARGIN = 0.05
"""A smaller difference between two ways, each run once, is called none."""
_UNDISTURBED = 0.8
"""This share of its time, at least, is a process on a core where nothing else wants it."""


def stage_table(made: Partition) -> FittedTable:
    """Return one row per stage."""
    columns = (
        FittingColumn("stage", 12),
        FittingColumn("operators", 5, is_numeric=True),
        FittingColumn("from", 6),
        FittingColumn("to", 7),
        FittingColumn("takes", 9, is_numeric=True),
        FittingColumn("size", 8, is_numeric=True),
    )
    rows = []
    for place, stage in enumerate(made.stages, start=1):
        takes = decimal(stage.taken_bytes) if stage.taken_bytes else "the input"
        size = decimal(stage.variant.card.size_bytes)
        rows.append(FittingRow((str(place), str(stage.steps), stage.first, stage.last, takes, size)))
    return FittedTable(columns, [Section(rows)])


def piece_table(found: Experiment) -> FittedTable:
    """Return one row per piece: its time on each delegate, the cores that it keeps busy, and the cost of crossing.

    The more delegates there are, the more of the busy cores a narrow terminal leaves out.
    """
    measured = found.measured
    columns = [FittingColumn("piece", 12)]
    for delegate in measured.pieces_us:
        columns.append(FittingColumn(f"{printable(delegate)}\nus", 10, is_numeric=True))
        columns.append(FittingColumn(f"{printable(delegate)}\ncores busy", 4, is_numeric=True))
    columns.append(FittingColumn("crossing\nus", 8, is_numeric=True))

    def row(name: str, of: Callable[[str], tuple[float | None, float | None]], crossing_us: float | None) -> FittingRow:
        costs = [_cost(*of(delegate)) for delegate in measured.pieces_us]
        return FittingRow((name, *(text for pair in costs for text in pair), number(crossing_us)))

    times_us, used_us = measured.pieces_us, measured.pieces_processor_us

    def of_piece(piece: int) -> Callable[[str], tuple[float | None, float | None]]:
        return lambda delegate: (times_us[delegate][piece], used_us[delegate][piece])

    rows = [row(str(place + 1), of_piece(place), found.crossing_us[place]) for place in range(len(found.crossing_us))]
    rows.append(row("sum", lambda name: (_sum(times_us[name]), _sum(used_us[name])), sum(found.crossing_us)))
    rows.append(row("whole", lambda name: (measured.whole_us[name], measured.whole_processor_us[name]), None))
    return FittedTable(columns, [Section(rows, title=printable(found.device))])


def outcome_table(outcomes: Sequence[Outcome]) -> FittedTable:
    """Return one row a way to run the model, the most results a second first."""
    columns = (
        FittingColumn("way", 12),
        FittingColumn("units", 11, may_fold=True),
        FittingColumn("results\n/s", 10, is_numeric=True),
        FittingColumn("predicted\n/s", 8, is_numeric=True),
        FittingColumn("error\n%", 9, is_numeric=True),
        FittingColumn("latency\nms", 7, is_numeric=True),
        FittingColumn("predicted\nms", 5, is_numeric=True),
        FittingColumn("error\n%", 6, is_numeric=True),
        FittingColumn("with others\ntimes", 3, is_numeric=True),
    )
    rows = [
        FittingRow(
            (
                outcome.way,
                ", ".join(outcome.units),
                number(outcome.measured_per_s),
                number(outcome.predicted_per_s),
                _percent(outcome.prediction_error),
                _milliseconds(outcome.measured_latency_us),
                _milliseconds(outcome.predicted_latency_us),
                _percent(outcome.latency_error),
                number(outcome.contention),
            )
        )
        for outcome in sorted(outcomes, key=lambda outcome: -(outcome.measured_per_s or 0))
    ]
    return FittedTable(columns, [Section(rows)])


def disturbances(measured: MeasuredPieces) -> Iterator[str]:
    """Say where a CPU delegate got much less than a core: other work on the phone makes times that predict nothing."""
    for delegate, used_us in measured.whole_processor_us.items():
        time_us = measured.whole_us[delegate]
        if used_us and time_us and find_delegate(delegate).is_cpu and used_us < _UNDISTURBED * time_us:
            yield (
                f"The whole on {delegate} was on a core for {100 * used_us / time_us:.0f} % of its time only: other "
                "work runs on this device, so that times and predictions are no measure of it."
            )


def remarks(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Say of each way what the table cannot: which stages share a unit, what limits it, and what failed."""
    for outcome in outcomes:
        name = f"{outcome.way} on {', '.join(outcome.units)}"
        if outcome.failure:
            yield f"{name}: {outcome.failure.message}"
        for unit in dict.fromkeys(outcome.units if outcome.way == "pipeline" else ()):
            places = [str(place) for place, other in enumerate(outcome.units, start=1) if other == unit]
            if len(places) > 1:
                yield f"{name}: stages {' and '.join(places)} share {unit}, whose time is divided between them."
        if outcome.limit:
            yield f"{name}: by the prediction {outcome.limit} is what limits it."


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Say whether cutting the model pays: against the best way without, and against the tool's partial delegation."""
    worked = [outcome for outcome in outcomes if not outcome.failure and outcome.measured_per_s]
    cut = [outcome for outcome in worked if outcome.way in ("chain", "pipeline")]
    uncut = [outcome for outcome in worked if outcome.way in ("whole", "partial", "copies")]
    if uncut and not any(outcome.way in ("chain", "pipeline") for outcome in outcomes):
        return "Cutting does not pay here: no chain is faster than one stage, and a pipeline needs two units."
    if not (cut and uncut):
        return "Nothing can be said: either the whole or every partition was not measured."
    rate, rival = _compared(cut, uncut, lambda outcome: outcome.measured_per_s)
    single = [outcome for outcome in uncut if outcome.way != "copies"]
    latency, quick_rival = _compared(cut, single, lambda outcome: _inverse(outcome.measured_latency_us))
    pays = [words for words, times in (("for results a second", rate), ("for latency", latency)) if times > 1 + _MARGIN]
    found = f"Cutting {'pays here ' + ' and '.join(pays) if pays else 'does not pay here'}: "
    found += (
        f"{rate:.2f} times the results a second of {rival}, and {1 / latency:.2f} times the latency of {quick_rival}."
    )
    for outcome in (outcome for outcome in uncut if outcome.way == "partial"):
        rate, name = _compared(cut, [outcome], lambda outcome: outcome.measured_per_s)
        latency, _ = _compared(cut, [outcome], lambda outcome: _inverse(outcome.measured_latency_us))
        best = max(rate, latency)
        words = "wins" if best > 1 + _MARGIN else "loses" if best < 1 - _MARGIN else "ties"
        found += f" Cutting {words} against {name}: {rate:.2f} times the results a second, {1 / latency:.2f} times "
        found += "the latency."
    return found


def _compared(
    cut: Sequence[Outcome], uncut: Sequence[Outcome], figure: Callable[[Outcome], float | None]
) -> tuple[float, str]:
    """Return how many times better the best of the one is than the best of the others, and what that is called."""
    best, rival = (max(ways, key=lambda way: figure(way) or 0.0) for ways in (cut, uncut))
    names = {
        "whole": "the whole",
        "partial": "the tool's own partial delegation:",
        "copies": f"{len(rival.units)} copies",
    }
    return (figure(best) or 0.0) / (figure(rival) or 1.0), f"{names[rival.way]} on {', '.join(rival.units)}"


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _cost(time_us: float | None, processor_us: float | None) -> tuple[str, str]:
    busy = None if not time_us or processor_us is None else processor_us / time_us
    return number(time_us), number(busy, digits=2)


def _sum(times_us: Sequence[float | None]) -> float | None:
    return None if None in times_us else sum(time for time in times_us if time is not None)


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:+.1f}"


def _milliseconds(value_us: float | None) -> str:
    return number(value_us and value_us / 1000)
