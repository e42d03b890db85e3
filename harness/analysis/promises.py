"""The promises of trust, H1 to H24, judged for one row by what the store holds of it.

A promise is kept only if the stored evidence shows it; None says that the store cannot tell, such as for a row that
was never measured. What harness does not do yet is not kept, whatever the row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.evidence import RowEvidence
from harness.analysis.verdict import FEWEST_INVOCATIONS
from harness.benchmark.delegates import is_cpu
from harness.benchmark.invocation import Pass
from harness.devices.cores import mask_cores
from harness.devices.device import DeviceKind
from harness.devices.preparation.preparation import Confirmation, KnobOutcome
from harness.errors import FailureClass
from harness.store.rows import InvocationRow, JsonObject
from harness.tflite.variant import FidelityOutcome

Judged = tuple[bool | None, str]
_MOST_ATTEMPTS = 3
"""One, and two redos."""
_FLAG = re.compile(r"--([A-Za-z_]\w*)=")
_MONITORS = frozenset({"report_peak_memory_footprint", "enable_op_profiling"})
_NOTHING_MEASURED: Judged = (None, "Nothing was measured, so there is nothing to judge.")


@dataclass(frozen=True)
class Promise:
    """One promise for one row."""

    number: int
    title: str
    kept: bool | None
    """None: the store cannot tell."""
    sentence: str
    """Why, in plain words."""


@dataclass(frozen=True)
class _Rule:
    number: int
    title: str
    judge: Callable[[RowEvidence], Judged]


_RULES: list[_Rule] = []


def _promise(number: int, title: str) -> Callable[[Callable[[RowEvidence], Judged]], Callable[[RowEvidence], Judged]]:
    def register(judge: Callable[[RowEvidence], Judged]) -> Callable[[RowEvidence], Judged]:
        _RULES.append(_Rule(number, title, judge))
        return judge

    return register


def promise_titles() -> dict[int, str]:
    """Return the title of every promise by its number."""
    return {rule.number: rule.title for rule in _RULES}


def judge_promises(evidence: RowEvidence) -> list[Promise]:
    """Return every promise in order, judged by one row's evidence."""
    return [Promise(rule.number, rule.title, *rule.judge(evidence)) for rule in _RULES]


@_promise(1, "the phone's state is labelled")
def _preflight(evidence: RowEvidence) -> Judged:
    device = evidence.device
    if device is None or not device.facts:
        return None, "The device's facts were not stored."
    labels = device.labels
    said = f"Labelled before anything was pushed: {', '.join(labels)}." if labels else "Nothing unusual was found."
    look = next((row.telemetry_before for row in evidence.invocations if row.telemetry_before), {})
    of_battery = look.get("battery_percent") is not None
    return True, said if of_battery else f"{said} The device does not tell its battery level."


@_promise(2, "a thermal gate before every invocation")
def _thermal_gate(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    gates = [row.gate for row in measured if row.gate is not None]
    if len(gates) < len(measured):
        return False, f"{len(measured) - len(gates)} invocations passed no gate."
    if hot := _count(not gate["cool"] for gate in gates):
        return False, f"{hot} of {len(measured)} invocations started hot, as the profile allows."
    looks = [row.telemetry_before or {} for row in measured]
    if any(look.get("thermal_status") is None for look in looks):
        rest = (
            "temperatures and clocks"
            if any(look.get("temperatures_c") for look in looks)
            else "clocks, if they are reported"
        )
        return False, f"This device has no thermal service; the gate could use only {rest}."
    waited_s = sum(gate["waited_s"] for gate in gates)
    return True, f"All {len(measured)} invocations started cool; {waited_s:.0f} s were waited in all."


@_promise(3, "checked again afterwards, redone when throttled")
def _checked_again(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if unseen := _count(row.telemetry_after is None for row in measured):
        return False, f"After {unseen} of {len(measured)} invocations the device was not looked at."
    if any(_tells_nothing_of_heat(row.telemetry_after or {}) and not _worked(row) for row in measured):
        return False, "This device tells neither its thermal status nor its clocks, so holding back cannot be seen."
    throttled = [row for row in evidence.invocations if row.failure_class == FailureClass.THROTTLED]
    if not throttled:
        return True, "None was throttled" + (", by the reference workload." if any(map(_worked, measured)) else ".")
    places = Counter((row.purpose, row.invocation_index) for row in throttled)
    within = max(places.values()) <= _MOST_ATTEMPTS
    told = "1 throttled attempt is" if len(throttled) == 1 else f"{len(throttled)} throttled attempts are"
    return within, f"{told} kept and not counted."


def _tells_nothing_of_heat(look: JsonObject) -> bool:
    return look.get("thermal_status") is None and not look.get("core_ceilings_khz")


def _worked(row: InvocationRow) -> bool:
    """Return True if the reference workload stood in for what the device does not tell."""
    return row.gate is not None and row.gate.get("workload_ratio") is not None


@_promise(4, "what was changed on the phone is given back")
def _given_back(evidence: RowEvidence) -> Judged:
    device = evidence.device
    if device and device.kind == DeviceKind.HOST:
        return False, "The host is measured as it is; nothing is locked."
    preparation = device.preparation if device else None
    if not preparation:
        return None, "How the phone was prepared was not stored."
    knobs = [*preparation["knobs"], *preparation["found"]]
    changed = [knob for knob in knobs if knob["outcome"] == KnobOutcome.SET or knob["restored"] is not None]
    sure = (Confirmation.READ_BACK, Confirmation.EXIT_CODE)
    if lost := [knob["name"] for knob in changed if knob["restored"] not in sure]:
        return False, f"Not given back, as far as is known: {', '.join(lost)}."
    if unread := [knob["name"] for knob in changed if knob["restored"] != Confirmation.READ_BACK]:
        return False, f"Given back by the phone's own word, which it does not let us read: {', '.join(unread)}."
    if not changed:
        return True, "Nothing was changed on the phone, so nothing had to be given back."
    return True, f"Set, given back and read back: {', '.join(knob['name'] for knob in changed)}."


@_promise(5, "pinned to equal cores")
def _pinned(evidence: RowEvidence) -> Judged:
    mask, threads = evidence.cell.core_mask, evidence.cell.threads
    if mask is None:
        return False, "Nothing was pinned to chosen cores on this device."
    if threads > len(mask_cores(mask)):
        return False, f"{threads} threads are more than the cores of mask {mask}."
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if untold := _count(
        row.cores_allowed is None or mask_cores(row.cores_allowed) != mask_cores(mask) for row in measured
    ):
        return False, f"For {untold} of {len(measured)} invocations the kernel did not confirm mask {mask}."
    return True, f"The kernel confirmed mask {mask} for all {len(measured)} invocations; threads: {threads}."


@_promise(6, "warm-up that converges")
def _warm_up(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    found = [row.warmup_converged for row in measured]
    if None in found:
        return False, f"For {found.count(None)} of {len(found)} invocations no test said how long warming up takes."
    if False in found:
        return False, "The cell had not settled when the longest warm-up ended."
    runs = sorted({row.warmup_asked_runs or 0 for row in measured})
    return True, f"Warm after {' or '.join(map(str, runs))} runs, as two windows agreed; each process warmed up so."


@_promise(7, "a fixed number of timed runs")
def _fixed_runs(evidence: RowEvidence) -> Judged:
    measured, asked = evidence.measured(), evidence.cell.mode.get("runs")
    if not measured:
        return _NOTHING_MEASURED
    if wrong := _count(row.runs != asked for row in measured):
        return False, f"{wrong} of {len(measured)} invocations did not make the {asked} runs that were asked for."
    return True, f"Each log counts {asked} timed runs, as asked for."


@_promise(8, "independent invocations in interleaved blocks")
def _independent(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if len(measured) < FEWEST_INVOCATIONS:
        return False, f"{len(measured)} invocations succeeded; {FEWEST_INVOCATIONS} are the fewest that say anything."
    blocks = len({row.block for row in measured})
    if blocks < len(measured):
        return False, f"{len(measured)} invocations lie in {blocks} blocks only."
    return (
        True,
        f"{len(measured)} processes, one in each of {blocks} blocks, in the order of seed {evidence.sweep.seed}.",
    )


@_promise(9, "an interval, and the device's noise floor")
def _interval(evidence: RowEvidence) -> Judged:
    if evidence.summary.latency_low_us is None:
        return (False, "There are too few invocations for an interval.") if evidence.measured() else _NOTHING_MEASURED
    if evidence.noise_floor is None:
        return False, "The interval stands; no A/A sweeps tell this device's noise floor (`harness noise`)."
    return True, f"The median has an interval; this device's noise floor is {evidence.noise_floor:.1%}."


@_promise(10, "latency, memory and op profile in separate passes")
def _separate_passes(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if any(_flags(row) & _MONITORS for row in measured):
        return False, "A monitor ran during the timed runs."
    memory, profile = (len(evidence.measured(purpose)) for purpose in (Pass.MEMORY, Pass.OP_PROFILE))
    others = f"Processes of their own: {memory} for memory, {profile} for the operators' times."
    return True, f"No monitor ran during the timed runs. {others}"


@_promise(11, "only the measured block counts, never zero")
def _parsed(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if wrong := _count(not _sensible(row) for row in measured):
        return False, f"{wrong} of {len(measured)} invocations hold latencies that contradict each other."
    return True, "Every latency is above zero and lies between the fastest and the slowest run of its block."


def _sensible(row: InvocationRow) -> bool:
    average, low, high = row.latency_avg_us, row.latency_min_us, row.latency_max_us
    slack = 1e-3  # averages are printed with six digits or fewer
    return bool(
        average
        and average > 0
        and (low is None or low * (1 - slack) <= average)
        and (high is None or average <= high * (1 + slack))
    )


@_promise(12, "only flags that the tool supports")
def _flags_probed(evidence: RowEvidence) -> Judged:
    known = evidence.tool.facts.get("flags") if evidence.tool else None
    if known is None:
        return False, "The tool was never asked which flags it supports."
    sent = set().union(*map(_flags, evidence.invocations)) if evidence.invocations else set()
    if unknown := sorted(sent - set(known)):
        return False, f"Sent, though the tool does not list it: {', '.join(unknown)}."
    return True, f"The tool lists {len(known)} flags, and all {len(sent)} that were sent are among them."


@_promise(13, "requested and achieved delegate distinguished")
def _delegation(evidence: RowEvidence) -> Judged:
    summary = evidence.summary
    if not evidence.measured():
        return _NOTHING_MEASURED
    if summary.fell_back is None and not is_cpu(evidence.cell.delegate):
        return False, "The log does not prove where it ran; the row is not ranked."
    if summary.fell_back:
        return summary.rank is None, "It ran elsewhere than asked, and is therefore not ranked."
    return True, f"{summary.delegate_requested} was asked for, and {summary.delegate_achieved} ran."


@_promise(14, "outputs checked against the host's")
def _outputs(evidence: RowEvidence) -> Judged:
    passed = evidence.summary.output_check
    if passed is None:
        return False, "The outputs were never compared with the host's; the row is not ranked."
    if not passed:
        return evidence.summary.rank is None, "The outputs differ from the host's; the row is not ranked."
    return True, f"The outputs on {evidence.cell.delegate} agree with the host's run of the same file."


@_promise(15, "SHA-256 verified on the device")
def _verified(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if evidence.device and evidence.device.kind == DeviceKind.HOST:
        return False, "On the host the files are used where they lie and are not hashed again."
    sha256 = evidence.cell.variant_sha256
    if not all(any(sha256 in part for part in row.command) for row in measured):
        return False, "The command does not name the variant by its SHA-256."
    return True, "The variant lies on the device under its SHA-256, which was computed there before the first run."


@_promise(16, "telemetry around every invocation")
def _telemetry(evidence: RowEvidence) -> Judged:
    measured = evidence.measured()
    if not measured:
        return _NOTHING_MEASURED
    if unseen := _count(row.telemetry_before is None or row.telemetry_after is None for row in measured):
        return False, f"Around {unseen} of {len(measured)} invocations a look at the device is missing."
    names = {
        "thermal status": "thermal_status",
        "temperatures": "temperatures_c",
        "battery": "battery_percent",
        "screen": "screen_on",
        "core frequencies": "core_frequencies_khz",
        "load": "load_1min",
    }
    untold = [
        name
        for name, key in names.items()
        if any((row.telemetry_before or {}).get(key) in (None, {}) for row in measured)
    ]
    if untold:
        return False, f"This device does not tell: {', '.join(untold)}."
    return True, "Frequencies, temperatures, thermal status, battery, screen and load before and after each."


@_promise(17, "cold and warm initialisation apart")
def _initialisation(evidence: RowEvidence) -> Judged:
    cold, warm = evidence.measured(Pass.INIT_COLD), evidence.measured(Pass.INIT_WARM)
    if not evidence.measured():
        return _NOTHING_MEASURED
    if not cold or not warm:
        return False, "Loading was not measured cold and warm: " + ("no warm load." if cold else "no cold load.")
    return True, f"Cold loads: {len(cold)}, in a fresh cache folder; warm loads after them: {len(warm)}."


@_promise(18, "sustained mode")
def _sustained(evidence: RowEvidence) -> Judged:
    windows = evidence.measured(Pass.SUSTAINED)
    if not windows:
        return None, "Not asked for: `--sustained 5m` runs for minutes."
    return True, f"Windows without a pause: {len(windows)}; the first is set against the last."


@_promise(19, "provenance in every row")
def _provenance(evidence: RowEvidence) -> Judged:
    device, tool, variant = evidence.device, evidence.tool, evidence.variant
    facts = (device.facts if device else None) or {}
    parts = {
        "tool": tool and tool.sha256,
        "command line": all(row.command for row in evidence.measured()),
        "variant lineage": ((variant.card if variant else None) or {}).get("model_sha256"),
        "OS fingerprint": facts.get("fingerprint"),
        "SoC": facts.get("soc") or facts.get("board"),
        "GPU": facts.get("gpu"),
        "GPU's driver": facts.get("gpu_driver"),
        "host": evidence.sweep.host,
        "harness version": evidence.sweep.harness_version,
    }
    if missing := [name for name, value in parts.items() if not value]:
        return False, f"Not known of this row: {', '.join(missing)}."
    return True, "Tool, flags, lineage, operating system, SoC, GPU, its driver, host and harness version are stored."


@_promise(20, "failures are classes with evidence")
def _failures(evidence: RowEvidence) -> Judged:
    classes = [row.failure_class for row in (*evidence.invocations, *evidence.accuracies) if row.failure_class]
    if unknown := sorted(set(classes) - {known.value for known in FailureClass}):
        return False, f"This harness does not know the class {', '.join(unknown)}."
    return True, f"Failures: {len(classes)}, each with its class." if classes else "Nothing failed."


@_promise(21, "time limits, a lease, resume by content hash")
def _time_limits(evidence: RowEvidence) -> Judged:
    measurement: JsonObject = evidence.sweep.spec.get("measurement") or {}  # type: ignore[assignment]
    limit_s = measurement.get("timeout_s")
    if limit_s is None:
        return None, "The sweep's time limit was not stored."
    if late := _count(row.wall_s > limit_s for row in evidence.measured()):
        return False, f"{late} processes took longer than their limit of {limit_s:g} s."
    return True, f"Every process ended within {limit_s:g} s. The lease leaves no trace in a row."


@_promise(22, "only like is compared with like")
def _like(evidence: RowEvidence) -> Judged:
    cell = evidence.cell.cell
    if cell.key != evidence.cell.key:
        return False, "The row's key does not fit what is stored of it: it was changed afterwards."
    return True, f"Its key {cell.key} holds variant, device, tool, cores and mode; `harness compare` refuses others."


@_promise(23, "compared with the float model")
def _float_model(evidence: RowEvidence) -> Judged:
    fidelity, rank = evidence.fidelity, evidence.summary.rank
    if fidelity is None:
        return None, "The sweep is from before variants were compared with the float model."
    if fidelity.outcome is FidelityOutcome.NO_FLOAT_MODEL:
        return None, "There is no float model to compare the file with."
    if fidelity.outcome is not FidelityOutcome.KEPT:
        return rank is None, f"Not ranked: {fidelity.reason}."
    return True, f"It answers as the float model does: {fidelity}."


@_promise(24, "what was measured is what was pushed")
def _untouched(evidence: RowEvidence) -> Judged:
    if not evidence.invocations:
        return _NOTHING_MEASURED
    if not evidence.file_checks:
        return None, "This sweep is of a version that did not hash the files again."
    rows = [*evidence.invocations, *evidence.accuracies]
    if marked := _count(row.failure_class == FailureClass.TAMPERED for row in rows):
        return evidence.summary.rank is None, f"Measured with changed files: {marked} processes; they do not count."
    looks = sorted({check.checked_at_utc for check in evidence.file_checks})
    if not evidence.is_confirmed:
        return False, "Tool and variant were not hashed again after the last process; the row is not ranked."
    return True, f"Tool and variant had the same SHA-256 at all {len(looks)} looks, the last after the last process."


def _flags(row: InvocationRow) -> set[str]:
    arguments: Sequence[str] = row.command
    return {found[1] for argument in arguments if (found := _FLAG.match(argument))}


def _count(truths: Iterable[bool]) -> int:
    return sum(truths)
