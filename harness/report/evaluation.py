"""What an evaluation found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.report.text import number, printable

if TYPE_CHECKING:
    from harness.evaluation.fidelity import Paired
    from harness.evaluation.layers import LayerError
    from harness.evaluation.suite import Condition, Evaluation

_MOST_LAYERS = 12


def fidelity_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return one row a variant."""
    table = Table("variant", "top-1, %", "lost, points (95 %)", "same class, %", "lost/won", "KL", "ECE")
    for one in evaluations:
        fidelity = one.fidelity
        table.add_row(
            Text(printable(one.variant.name)),
            f"{100 * fidelity.top1.value:.2f}",
            _drop(fidelity.paired),
            f"{100 * fidelity.agreement.value:.2f}",
            f"{fidelity.paired.lost}/{fidelity.paired.won}",
            number(fidelity.kl_divergence, 2),
            f"{fidelity.calibration_error:.3f}",
        )
    return table


def condition_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return one row a corruption or shift: the float model's top-1, and the points that each variant loses there."""
    table = Table("images", "kind", "float top-1, %")
    for one in evaluations:
        table.add_column(Text(printable(one.variant.name)))
    for name, kind in dict.fromkeys((one.name, one.kind) for one in evaluations[0].conditions):
        groups = [_of(one.conditions, name) for one in evaluations]
        floats = sum(condition.float_top1 for condition in groups[0]) / len(groups[0])
        table.add_row(name, kind, f"{100 * floats:.1f}", *map(_mean_drop, groups))
    return table


def layer_table(errors: Sequence[LayerError]) -> Table:
    """Return one row a layer, those that add most noise."""
    table = Table("layer", "shape", "signal to noise, dB", "noise added, %")
    worst = sorted(errors, key=lambda error: -error.added_noise)[:_MOST_LAYERS]
    for error in worst:
        shape = "x".join(map(str, error.shape))
        name = Text(printable(_short(error.name)), overflow="fold")
        table.add_row(name, shape, f"{error.signal_to_noise_db:.1f}", number(100 * error.added_noise, 2))
    return table


def _short(name: str) -> str:
    """Return what tells a layer apart for people: converters join the paths of all that was fused into it."""
    return "/".join(name.partition(";")[0].split("/")[-2:])


def _of(conditions: Iterable[Condition], name: str) -> list[Condition]:
    return [condition for condition in conditions if condition.name == name]


def _drop(paired: Paired) -> str:
    text = f"{paired.drop_points:+.2f} ({paired.drop_low:+.2f}..{paired.drop_high:+.2f})"
    return f"{text} noise" if paired.is_noise else text


def _mean_drop(conditions: Sequence[Condition]) -> str:
    """Return the mean over severities; a star where any of them is more than noise."""
    mean = sum(condition.paired.drop_points for condition in conditions) / len(conditions)
    return f"{mean:+.2f}" + ("" if all(condition.paired.is_noise for condition in conditions) else " *")
