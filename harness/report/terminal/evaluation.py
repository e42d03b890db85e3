"""What an evaluation found, as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.evaluation.changed_images import OWN, TRANSFERRED
from harness.evaluation.suite import HOST
from harness.text import number, printable

if TYPE_CHECKING:
    from harness.evaluation.attacks import Surrogacy
    from harness.evaluation.changed_images import Condition
    from harness.evaluation.fidelity import Fidelity, Paired
    from harness.evaluation.layers import LayerError
    from harness.evaluation.suite import Compared, Evaluation
    from harness.evaluation.task import Measure

_MOST_LAYERS = 12
_VARIANTS_BESIDE = 3
"""Columns of variants that fit into 80 next to their figures."""
_SMALLEST_DIVERGENCE = 0.0001
_ATTACKS = (TRANSFERRED, OWN)
_CONDITION_LEGEND = (
    "Change in points against the float model on the same images, mean over five severities; *: more than noise at one "
    "severity or more."
)
_ATTACK_LEGEND = (
    "Bounds in steps of a pixel's 255; 95 % intervals; *: differs from the float model by more than noise, each facing "
    "what the heading says."
)
_ALMOST_ONE = 0.9999


def comparison_table(evaluations: Sequence[Evaluation], data: str) -> Table:
    """Return how variants compare on one set of samples: what changed if there are labels, else the measures."""
    pairs = [(one, found) for one in evaluations for found in one.compared if found.data == data]
    fidelities = [(one, found.comparison.fidelity) for one, found in pairs if found.comparison.fidelity]
    return _fidelity_table(fidelities) if fidelities else _measure_table(pairs)


def _fidelity_table(rows: Iterable[tuple[Evaluation, Fidelity]]) -> Table:
    table = _table("variant", "top-1, %", "change, points (95 %)", "same class, %", "KL", "ECE")
    for one, fidelity in rows:
        paired = fidelity.paired
        noise = "noise: " if paired.is_noise else ""
        table.add_row(
            _name(one),
            f"{100 * fidelity.top1.value:.2f}",
            f"{_change(paired)}\n{noise}{paired.lost} lost, {paired.won} won",
            f"{100 * fidelity.agreement.value:.2f}",
            _divergence(fidelity.kl_divergence),
            f"{fidelity.calibration_error:.3f}",
        )
    return table


def _measure_table(rows: Sequence[tuple[Evaluation, Compared]]) -> Table:
    """Return one row per variant and output, and one column a measure."""
    measures = [(one, measure) for one, found in rows for measure in found.comparison.measures]
    headings = list(dict.fromkeys(_heading(measure) for _, measure in measures))
    outputs = any(measure.output for _, measure in measures)
    table = _table("variant", *(["output"] if outputs else []), *headings)
    cells: dict[tuple[int, str], tuple[Evaluation, dict[str, str]]] = {}
    for one, measure in measures:
        cells.setdefault((id(one), measure.output), (one, {}))[1][_heading(measure)] = _value(measure)
    for (_, output), (one, values) in cells.items():
        named = [Text(printable(output))] if outputs else []
        table.add_row(_name(one), *named, *(values.get(heading, "-") for heading in headings))
    return table


def delegate_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return one row per variant and delegate: what ran where, and what it changed against the host."""
    table = _table("variant", "nodes on it", "same class, %", "signal to noise, dB", "largest error", "verdict")
    for one in evaluations:
        change, asked = one.change, Text(printable(f"{one.variant.name} on {one.delegate}"))
        if change is None:
            table.add_row(asked, *["-"] * 4, one.failure.failure_class if one.failure else "-")
            continue
        nodes, total = change.delegation.delegated_nodes, change.delegation.total_nodes
        same = change.label_agreement
        table.add_row(
            asked,
            "-" if nodes is None else f"{nodes} of {total or 'unknown'}",
            "-" if same is None else f"{100 * same:.2f}",
            f"{change.signal_to_noise_db:.1f}",
            number(change.max_abs_error),
            "fell_back" if change.delegation.fell_back else "wrong_output" if change.wrong else "ok",
        )
    return table


def condition_tables(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Table, str]]:
    """Yield tables, each with its legend, of what each variant loses on bad images: a few variants each."""
    told = [one for one in evaluations if _bad_images(one)]
    for start in range(0, len(told), _VARIANTS_BESIDE):
        yield _condition_table(told[start : start + _VARIANTS_BESIDE]), _CONDITION_LEGEND


def attack_tables(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Table, str]]:
    """Yield the table, with its legend, of accuracy under attack."""
    told = [one for one in evaluations if one.surrogacy]
    if not told:
        return
    names = dict.fromkeys(one.name for one in told[0].conditions if one.kind in _ATTACKS)
    for attack, bounds in groupby(names, lambda name: name.partition(" ")[0]):
        yield _attack_table(told, attack, list(bounds)), _ATTACK_LEGEND


def _attack_table(evaluations: Sequence[Evaluation], attack: str, names: Sequence[str]) -> Table:
    table = _table(
        "bound", "variant", f"{attack} on float: top-1, %", f"{attack} on itself: top-1, %", "float, on itself"
    )
    for name in names:
        table.add_section()
        for place, one in enumerate(evaluations):
            found = {condition.kind: condition for condition in one.conditions if condition.name == name}
            transferred = found.get(TRANSFERRED)
            table.add_row(
                name.partition(" ")[2] if place == 0 else "",
                _name(one),
                _top1(transferred),
                _top1(found.get(OWN)),
                f"{100 * transferred.float_top1:.1f}" if transferred else "-",
            )
    return table


def _copy(surrogacy: Surrogacy) -> str:
    if surrogacy.agreement is None:
        return surrogacy.refusal
    return f"the copy that was attacked gives the same class for {100 * surrogacy.agreement:.1f} % of clean samples."


def _bad_images(one: Evaluation) -> list[Condition]:
    return [condition for condition in one.conditions if condition.kind not in _ATTACKS]


def _top1(condition: Condition | None) -> str:
    """Return accuracy with its interval; a star where it differs from the float model's by more than noise."""
    if condition is None:
        return "-"
    top1, star = condition.top1, "" if condition.paired.is_noise else " *"
    return f"{100 * top1.value:.1f} ({100 * top1.low:.1f}..{100 * top1.high:.1f}){star}"


def _condition_table(evaluations: Sequence[Evaluation]) -> Table:
    table = _table("images", "float top-1, %")
    for one in evaluations:
        table.add_column(_name(one), overflow="fold")
    kind_before = ""
    for name, kind in dict.fromkeys((one.name, one.kind) for one in _bad_images(evaluations[0])):
        if kind != kind_before:
            table.add_section()
            kind_before = kind
        groups = [[condition for condition in one.conditions if condition.name == name] for one in evaluations]
        floats = sum(condition.float_top1 for condition in groups[0]) / len(groups[0])
        table.add_row(name, f"{100 * floats:.1f}", *map(_mean_change, groups))
    return table


def layer_table(errors: Sequence[LayerError]) -> Table:
    """Return one row per layer, those that add most noise."""
    table = _table("layer", "shape", "signal to noise, dB", "noise added, %")
    worst = sorted(errors, key=lambda error: -error.added_noise)[:_MOST_LAYERS]
    for error in worst:
        shape = "x".join(map(str, error.shape))
        name = Text(printable(short_layer_name(error.name)), overflow="fold")
        table.add_row(name, shape, f"{error.signal_to_noise_db:.1f}", number(100 * error.added_noise, 2))
    return table


def short_layer_name(name: str) -> str:
    """Return what tells a layer apart for people: converters join the paths of all that was fused into it."""
    return "/".join(name.partition(";")[0].split("/")[-2:])


def place_name(one: Evaluation) -> str:
    """Return a variant's name with where it was to run, if that is not the host, and whether it ran elsewhere."""
    if one.delegate == HOST:
        return one.variant.name
    fell_back = " (fell back)" if one.change and one.change.delegation.fell_back else ""
    return f"{one.variant.name} on {one.delegate}{fell_back}"


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _name(one: Evaluation) -> Text:
    return Text(printable(place_name(one)), overflow="fold")


def _heading(measure: Measure) -> str:
    return f"{measure.name}, {measure.unit}" if measure.unit else measure.name


def _value(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return _figure(measure.value)
    return f"{_figure(measure.value)}\n({_figure(measure.low)}..{_figure(measure.high)})"


def _figure(value: float) -> str:
    """Return four digits; a share that only rounding would make 1 is distinguished from it."""
    if abs(value) == float("inf"):
        return "infinite"
    return f">{_ALMOST_ONE}" if _ALMOST_ONE < value < 1 else number(value, 4)


def _divergence(value: float) -> str:
    return f"<{_SMALLEST_DIVERGENCE}" if 0 < value < _SMALLEST_DIVERGENCE else number(value, 2)


def _change(paired: Paired) -> str:
    """Return the change, negative for a loss as in every table; `drop_points` in data counts the loss."""
    low, change, high = (round(-drop, 2) + 0.0 for drop in (paired.drop_high, paired.drop_points, paired.drop_low))
    return f"{change:+.2f} ({low:+.2f}..{high:+.2f})"


def _mean_change(conditions: Sequence[Condition]) -> str:
    """Return the mean over severities; a star where any of them is more than noise."""
    mean = round(-sum(condition.paired.drop_points for condition in conditions) / len(conditions), 2) + 0.0
    return f"{mean:+.2f}" + ("" if all(condition.paired.is_noise for condition in conditions) else " *")


def notes_on_data(evaluations: Sequence[Evaluation], data: str) -> str:
    """Return what stands under a comparison table."""
    found = next((found for one in evaluations for found in one.compared if found.data == data), None)
    if found is None:
        return f"{data}: nothing could be compared."
    words = f"{data}: {found.samples} samples"
    if (fidelity := found.comparison.fidelity) is None:
        return f"{words}; (low..high): 95 % over samples."
    return (
        f"{words}; float model: top-1 {100 * fidelity.float_top1.value:.2f} %, ECE "
        f"{fidelity.float_calibration_error:.3f}. change: against the float model on the same samples, by McNemar's "
        "exact test; noise: chance gives as much more often than 1 in 20."
    )


def sentences(evaluations: Iterable[Evaluation]) -> Iterator[str]:
    """Yield what has to be said next to the tables: what failed, fell back, or computes something else."""
    for one in evaluations:
        change = one.change
        said = [_copy(one.surrogacy) if one.surrogacy and one.delegate == HOST else ""]
        said += [one.failure.message if one.failure else "", *([change.wrong, change.note] if change else [])]
        yield from (f"{one.variant.name} on {one.delegate}: {words}" for words in said if words)
