"""Everything behind one number, on one screen. A pure function of the row's evidence."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis.evidence import RowEvidence
from harness.analysis.promises import Promise
from harness.analysis.result_row import ResultRow
from harness.analysis.summary import latency_column, operator_shares
from harness.store.rows import AccuracyRow, FileCheckRow, InvocationRow, JsonObject, ToolRow
from harness.text import number, pluralize, printable, to_json_value

_PLOT_COLUMNS = 40
_SHORT_HASH = 16
_MOST_OPERATORS = 6
_KEPT = {True: ("kept", "green"), False: ("NOT kept", "bold red"), None: ("unknown", "yellow")}


def explain_document(evidence: RowEvidence, promises: Sequence[Promise]) -> dict[str, Any]:
    """Return the whole evidence as JSON values."""
    return {
        "sweep": {name: to_json_value(value) for name, value in asdict(evidence.sweep).items()},
        "row": evidence.summary.as_json(),
        "cell": vars(evidence.cell),
        "device": evidence.device.as_json() if evidence.device else {},
        "variant": evidence.variant.as_json() if evidence.variant else {},
        "tool": vars(evidence.tool) if evidence.tool else {},
        "invocations": [row.as_json() for row in evidence.invocations],
        "accuracies": [row.as_json() for row in evidence.accuracies],
        "noise_floor": evidence.noise_floor,
        "file_checks": [vars(check) | {"passed": check.passed} for check in evidence.file_checks],
        "promises": [vars(promise) for promise in promises],
    }


def explain_screen(evidence: RowEvidence, promises: Sequence[Promise]) -> RenderableType:
    """Return the screen; text from outside is never read as markup."""
    summary = evidence.summary
    title = f"{summary.variant} {summary.delegate_requested} on {summary.device} ({summary.serial})"
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(evidence):
        facts.add_row(name, Text(printable(value)))
    return Group(
        Text(printable(title), style="bold"),
        facts,
        Text("\nsamples, one process per row, in the order of time", style="bold"),
        *_plot(evidence),
        Text("\npromises", style="bold"),
        _promise_table(promises),
    )


def _facts(evidence: RowEvidence) -> Iterable[tuple[str, str]]:
    last = next(reversed(evidence.measured() or list(evidence.invocations)), None)
    yield "latency", _latency(evidence.summary)
    yield "memory", f"{number(evidence.summary.memory_mb)} MB"
    yield "file", _file(evidence.summary)
    yield "accuracy", _accuracy(evidence.summary)
    yield "verdict", _verdict(evidence.summary)
    yield "sweep", f"{evidence.sweep.id}, preset {evidence.sweep.preset}, seed {evidence.sweep.seed}"
    if resumed := evidence.sweep.carried_on:
        yield "sittings", f"measured in {evidence.summary.sittings or 'none'} of 1 to {1 + len(resumed)}"
    yield "tool", _tool(evidence.tool)
    yield "command", shlex.join(last.command if last else []) or "nothing was run"
    yield "raw log", last.log_path if last else "-"
    yield "variant", _variant(evidence)
    yield "cores", _cores(evidence)
    yield "knobs", _knobs(evidence.device.preparation if evidence.device else None)
    yield "labels", ", ".join(evidence.device.labels if evidence.device else []) or "none"
    yield "before", _state(last.telemetry_before if last else None)
    yield "during", _state(last.telemetry_during if last else None)
    yield "after", _state(last.telemetry_after if last else None)
    yield "gate", _gates(evidence.invocations)
    yield "redone", _discarded(evidence.discarded)
    yield "delegate", _delegate(evidence.summary)
    yield "outputs", _outputs(evidence.accuracies)
    yield "files", _files(evidence.file_checks)
    yield "float model", str(evidence.fidelity or "never compared with it")
    yield "time went to", _operators(evidence.invocations)


def _files(checks: Sequence[FileCheckRow]) -> str:
    if not checks:
        return "not hashed again: measured by an older version"
    bad = [check for check in checks if not check.passed]
    changes = "; ".join(f"{check.path}: {check.found_sha256 or 'gone'} at {check.checked_at_utc}" for check in bad)
    return f"hashed on the device, last at {checks[-1].checked_at_utc}: {changes or 'always what was pushed'}"


def _latency(summary: ResultRow) -> str:
    if summary.latency_median_us is None:
        return "not measured"
    median = f"{number(summary.latency_median_us / 1000)} ms"
    if summary.latency_low_us is None or summary.latency_high_us is None:
        return median
    low, high = number(summary.latency_low_us / 1000), number(summary.latency_high_us / 1000)
    return f"{median} (95 % interval {low}..{high}), {pluralize(summary.invocations_ok or 0, 'invocation')}"


def _file(summary: ResultRow) -> str:
    sizes = (None if size is None else size / 1000 for size in (summary.size_bytes, summary.gzip_size_bytes))
    return "{} kB, zipped {} kB".format(*map(number, sizes))


def _accuracy(summary: ResultRow) -> str:
    if summary.top1 is None:
        return "not measured"
    change, decimals = summary.accuracy_change_points, summary.accuracy_decimals
    against = "" if change is None else f", {change:+.{decimals}f} points against the float model"
    return f"top-1 {100 * summary.top1:.{decimals}f} % of {pluralize(summary.samples or 0, 'sample')}{against}"


def _verdict(summary: ResultRow) -> str:
    said = str(summary.verdict) + (f", rank {summary.rank}" if summary.rank is not None else "")
    if summary.failure_class is None:
        return said
    named = "" if summary.failure_class == summary.verdict else f"{summary.failure_class}: "
    return f"{said}: {named}{summary.failure_message} {summary.failure_evidence or ''}"


def _tool(tool: ToolRow | None) -> str:
    if not tool:
        return "not stored"
    return f"{tool.name} ({tool.family}) from {tool.facts.get('origin')}, SHA-256 {tool.sha256}"


def _variant(evidence: RowEvidence) -> str:
    card = evidence.variant.card if evidence.variant else None
    sha256 = f"SHA-256 {evidence.cell.variant_sha256}"
    if not card:
        return sha256
    steps = " -> ".join(str(step.get("technique")) for step in card["steps"]) or "no technique"
    return f"{card['model']} ({card['model_sha256'][:_SHORT_HASH]}) -> {steps} -> {sha256}"


def _cores(evidence: RowEvidence) -> str:
    mask = evidence.cell.core_mask
    told = sorted({row.cores_allowed for row in evidence.measured() if row.cores_allowed})
    asked = f"mask {mask}" if mask else "not pinned"
    return f"{asked}, {pluralize(evidence.cell.threads, 'thread')}; the kernel reported {', '.join(told) or 'nothing'}"


def _knobs(preparation: JsonObject | None) -> str:
    if not preparation:
        return "not stored"
    knobs = [*preparation["knobs"], *preparation["found"]]
    return "; ".join(map(_knob, knobs)) or "none asked for"


def _knob(knob: JsonObject) -> str:
    restored = f", restored: {knob['restored']}" if knob["restored"] else ""
    reason = f" ({knob['reason']})" if knob["reason"] else ""
    return f"{knob['name']} {knob['outcome']}{restored}{reason}"


def _state(look: JsonObject | None) -> str:
    if look is None:
        return "not looked at"
    if "peak_frequencies_khz" in look:
        peak, ceilings = look["peak_frequencies_khz"], look["lowest_ceilings_khz"]
        return f"{look['count']} looks; cores ran at up to {_clocks(peak)}, allowed {_clocks(ceilings)}"
    hottest = max((look.get("temperatures_c") or {}).values(), default=None)
    told = {
        "thermal status": look.get("thermal_status"),
        "hottest °C": None if hottest is None else number(hottest),
        "battery %": look.get("battery_percent"),
        "screen on": look.get("screen_on"),
        "load": look.get("load_1min"),
        "GHz": _clocks(look["core_frequencies_khz"]) if look.get("core_frequencies_khz") else None,
    }
    return ", ".join(f"{name} {'unknown' if value is None else value}" for name, value in told.items())


def _clocks(khz_by_core: Mapping[str, int]) -> str:
    return "/".join(dict.fromkeys(f"{khz / 1e6:.2f}" for khz in khz_by_core.values())) or "unknown"


def _gates(invocations: Sequence[InvocationRow]) -> str:
    gates = [row.gate for row in invocations if row.gate]
    if not gates:
        return "none recorded"
    reasons = "; ".join(dict.fromkeys(gate["held_by"] for gate in gates if gate["held_by"]))
    waited_s = sum(gate["waited_s"] for gate in gates)
    ratios = [gate["workload_ratio"] for gate in gates if gate.get("workload_ratio")]
    return (
        f"{pluralize(len(gates), 'gate')}, {waited_s:.1f} s waited in all"
        + (f", held by {reasons}" if reasons else "")
        + (f"; reference workload up to {max(ratios):.2f} times its first time" if ratios else "")
    )


def _discarded(discarded: Sequence[InvocationRow]) -> str:
    return (
        "; ".join(
            f"{row.purpose} {row.invocation_index} attempt {row.attempt}: "
            f"{row.failure_class}: {row.failure_message} ({row.log_path})"
            for row in discarded
        )
        or "nothing"
    )


def _delegate(summary: ResultRow) -> str:
    nodes = ""
    if summary.delegated_nodes is not None:
        parts = "" if summary.partitions is None else f" in {pluralize(summary.partitions, 'partition')}"
        all_nodes = "all" if summary.total_nodes is None else summary.total_nodes
        nodes = f", {summary.delegated_nodes} of {all_nodes} nodes{parts}"
    return f"requested {summary.delegate_requested}, ran {summary.delegate_achieved or 'unknown'}{nodes}"


def _operators(invocations: Sequence[InvocationRow]) -> str:
    """Name the slowest kinds of operator with where they ran; the rest in one sum."""
    shares = operator_shares(invocations)
    if not shares:
        return "not profiled"
    told = [f"{share.operator} {share.share:.0%} ({share.place})" for share in shares[:_MOST_OPERATORS]]
    rest = sum(share.share for share in shares[_MOST_OPERATORS:])
    return "; ".join(told + ([f"{len(shares) - _MOST_OPERATORS} more kinds {rest:.0%}"] if rest else []))


def _outputs(accuracies: Sequence[AccuracyRow]) -> str:
    check = accuracies[-1].check if accuracies else None
    if not check:
        return "never compared with the host's"
    passed = "agree" if check["passed"] else "DIFFER"
    signs = [words for key, words in (("all_zero", "all zero"), ("not_finite", "not finite")) if check[key]]
    return (
        f"{', '.join([passed, *signs])}: {pluralize(check['samples'], 'sample')}, "
        f"smallest cosine {number(check['cosine_min'], 4)}, largest difference {number(check['max_abs_error'])}; "
        f"limits: {check['limits']}" + (f"; {accuracies[-1].note}" if accuracies[-1].note else "")
    )


def _plot(evidence: RowEvidence) -> list[Text]:
    """Return one line per process with its dot between the fastest and the slowest; the interval lies behind it."""
    measured, summary = evidence.measured(), evidence.summary
    column = latency_column(summary.latency_of)
    values = [getattr(row, column) for row in measured]
    if not values:
        return [Text("  none")]
    ends = [end for end in (summary.latency_low_us, summary.latency_high_us) if end is not None]
    low, high = min(*values, *ends, values[0]), max(*values, *ends, values[0])
    behind = range(_place(ends[0], low, high), _place(ends[1], low, high) + 1) if ends else range(0)
    lines = []
    for row, value in zip(measured, values, strict=True):
        signs = ["─" if place in behind else " " for place in range(_PLOT_COLUMNS)]
        signs[_place(value, low, high)] = "●"
        lines.append(Text(f"  {row.invocation_index:>3} |{''.join(signs)}| {number(value / 1000, 4)} ms"))
    return lines


def _place(value: float, low: float, high: float) -> int:
    return 0 if high == low else round((value - low) / (high - low) * (_PLOT_COLUMNS - 1))


def _promise_table(promises: Sequence[Promise]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for promise in promises:
        word, style = _KEPT[promise.kept]
        told = Text(f"{promise.title}: ", style="bold") + Text(printable(promise.sentence), style="not bold")
        table.add_row(f"H{promise.number}", Text(word, style=style), told)
    return Padding(table, (0, 0, 0, 2))
