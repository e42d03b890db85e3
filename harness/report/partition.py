"""What a partition gives, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from harness.report.text import number, printable

if TYPE_CHECKING:
    from harness.partition.experiment import Experiment
    from harness.partition.partition import Partition
    from harness.partition.proof import Outcome

_MISSING = "-"


def stage_table(made: Partition) -> Table:
    """Return one row a stage."""
    table = Table("stage", "operators", "from", "to", "takes", "size")
    for place, stage in enumerate(made.stages, start=1):
        takes = decimal(stage.taken_bytes) if stage.taken_bytes else "the input"
        size = decimal(stage.variant.card.size_bytes)
        table.add_row(str(place), str(stage.steps), stage.first, stage.last, takes, size)
    return table


def piece_table(found: Experiment) -> Table:
    """Return one row a piece: what it takes on each delegate, and what comes into it costs."""
    measured = found.measured
    table = Table("piece", *(f"{delegate}, us" for delegate in measured.pieces_us), "crossing, us",
                  title=Text(printable(found.device)))  # fmt: skip
    for piece, crossing_us in enumerate(found.crossing_us):
        times = [_figure(times_us[piece]) for times_us in measured.pieces_us.values()]
        table.add_row(str(piece + 1), *times, _figure(crossing_us))
    sums = [_sum(times_us) for times_us in measured.pieces_us.values()]
    table.add_row("sum", *map(_figure, sums), _figure(sum(found.crossing_us)), end_section=True)
    table.add_row("whole", *(_figure(measured.whole_us[delegate]) for delegate in measured.pieces_us), _MISSING)
    return table


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Return one row a way to run the model, the most results a second first."""
    table = Table("way", "units", "latency, ms", "results/s", "predicted", "error, %", "beside others")
    for outcome in sorted(outcomes, key=lambda outcome: -(outcome.measured_per_s or 0)):
        error = outcome.prediction_error
        table.add_row(
            outcome.way, ", ".join(outcome.units), _milliseconds(outcome.measured_latency_us),
            _figure(outcome.measured_per_s), _figure(outcome.predicted_per_s),
            _MISSING if error is None else f"{100 * error:+.1f}",
            _MISSING if outcome.contention is None else f"{outcome.contention:.2f} times",
        )  # fmt: skip
    return table


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Say in one sentence whether cutting the model pays."""
    whole = [outcome for outcome in outcomes if outcome.way in ("whole", "copies")]
    cut = [outcome for outcome in outcomes if outcome.way in ("chain", "pipeline")]
    rates = [(max((o.measured_per_s or 0 for o in ways), default=0.0)) for ways in (whole, cut)]
    times = [min((o.measured_latency_us for o in ways if o.measured_latency_us), default=0.0) for ways in (whole, cut)]
    if not (rates[0] and rates[1]):
        return "Nothing can be said: either the whole or every partition was not measured."
    rate = f"{rates[1] / rates[0]:.2f} times the results a second of the best way without cutting"
    latency = f", and {times[1] / times[0]:.2f} times its latency" if times[0] and times[1] else ""
    pays = "pays" if rates[1] > rates[0] or 0 < times[1] < times[0] else "does not pay"
    return f"Cutting {pays} here: {rate}{latency}."


def _sum(times_us: Sequence[float | None]) -> float | None:
    return None if None in times_us else sum(time for time in times_us if time is not None)


def _figure(value: float | None) -> str:
    return _MISSING if value is None else number(value)


def _milliseconds(value_us: float | None) -> str:
    return _MISSING if value_us is None else number(value_us / 1000)
